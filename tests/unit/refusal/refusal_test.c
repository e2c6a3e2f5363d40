/* SPDX-License-Identifier: MIT */
/*
 * Target T2: refuse the 1st, 2nd, ... n-th allocation of every operation, once
 * and from then on, over every kind of memory that it can meet.
 *
 * A scenario is a scene (what is mapped) and an operation.  It runs once
 * unhindered: that is its normal result and its normal state afterwards.  Then
 * it runs again with the n-th allocation refused, for n from 1 until nothing is
 * refused any more.  Each time the result must be the normal one, with the normal
 * state, or "no memory", with the state as before; every invariant holds; and
 * after shutdown nothing is left (sim_shutdown() counts).
 *
 * Operations that may stop half-way and say so (bytes copied, pages locked) are
 * marked: their state is then between the two.
 */
#include "harness.h"
#include "sim.h"

#include <quire/fault.h>
#include <quire/space.h>
#include <quire/user.h>

#include <stdio.h>
#include <string.h>

enum { SCENE_PAGES = 12, LIMIT = 400 };

struct scene {
    struct sim *sim;
    struct qr_space *space;
    struct qr_space *child;
    struct qr_object *object;
};

/* ---- Scenes: pages 0 to 11 ---------------------------------------------------------- */

static size_t
copy_zeros(void *context, void *window, size_t bytes)
{
    memset(window, *(int *)context, bytes);
    return bytes;
}

static void
object_make(struct scene *scene, size_t pages)
{
    size_t done;
    int fill = 'f';

    ASSERT_EQ(qr_object_create(sim_objects(scene->sim), &qr_pager_memory, NULL,
                               pages * QR_PAGE_SIZE, &scene->object),
              QR_OK);
    ASSERT_EQ(qr_object_write(scene->object, 0, 5 * QR_PAGE_SIZE + 100, copy_zeros, &fill, &done),
              QR_OK);
}

static void
touch(struct scene *scene, size_t first, size_t last)
{
    for (size_t page = first; page < last; page++)
        sim_write(scene->sim, page, page + 1);
}

static void
scene_empty(struct scene *scene)
{
    (void)scene;
}

static void
scene_untouched(struct scene *scene)
{
    ASSERT_EQ(sim_map(scene->sim, 0, SCENE_PAGES, SIM_W), QR_OK);
}

static void
scene_touched(struct scene *scene)
{
    scene_untouched(scene);
    touch(scene, 0, SCENE_PAGES);
}

static void
scene_half_touched(struct scene *scene)
{
    scene_untouched(scene);
    touch(scene, 3, 7);
    (void)sim_read(scene->sim, 8);
}

static void
scene_read_only(struct scene *scene)
{
    scene_touched(scene);
    ASSERT_EQ(sim_protect(scene->sim, 0, SCENE_PAGES, SIM_R), QR_OK);
}

static void
scene_pieces(struct scene *scene)
{
    scene_touched(scene);
    for (size_t page = 0; page < SCENE_PAGES; page += 3)
        ASSERT_EQ(sim_protect(scene->sim, page, page + 1, SIM_R), QR_OK);
    ASSERT_EQ(sim_unmap(scene->sim, 5, 6), QR_OK);
}

static void
scene_forked(struct scene *scene)
{
    scene_touched(scene);
    scene->child = sim_fork(scene->sim);
    ASSERT_NOT_NULL(scene->child);
}

static void
scene_shared(struct scene *scene)
{
    ASSERT_EQ(sim_map_shared(scene->sim, 0, SCENE_PAGES, SIM_W), QR_OK);
    touch(scene, 2, 6);
}

static void
scene_shared_forked(struct scene *scene)
{
    scene_shared(scene);
    scene->child = sim_fork(scene->sim);
    ASSERT_NOT_NULL(scene->child);
}

static void
scene_file(struct scene *scene)
{
    object_make(scene, SCENE_PAGES);
    ASSERT_EQ(sim_map_object(scene->sim, 0, SCENE_PAGES, SIM_W, scene->object, 0), QR_OK);
    touch(scene, 1, 3);
}

static void
scene_private_file(struct scene *scene)
{
    object_make(scene, SCENE_PAGES);
    ASSERT_EQ(sim_map_private(scene->sim, 0, SCENE_PAGES, SIM_W, scene->object, 0), QR_OK);
    touch(scene, 1, 3);
    (void)sim_read(scene->sim, 4);
}

static void
scene_short_file(struct scene *scene)
{
    object_make(scene, 6);
    ASSERT_EQ(sim_map_private(scene->sim, 0, SCENE_PAGES, SIM_W, scene->object, 0), QR_OK);
    (void)sim_read(scene->sim, 2);
}

static void
scene_locked(struct scene *scene)
{
    scene_half_touched(scene);
    ASSERT_EQ(qr_space_lock_pages(scene->space, sim_page(2), 4 * QR_PAGE_SIZE, QR_LOCK_NOW), QR_OK);
}

static const struct {
    const char *name;
    void (*make)(struct scene *scene);
} scenes[] = {
    {"nothing", scene_empty},
    {"untouched memory", scene_untouched},
    {"touched memory", scene_touched},
    {"half-touched memory", scene_half_touched},
    {"read-only memory", scene_read_only},
    {"pieces", scene_pieces},
    {"forked memory", scene_forked},
    {"shared memory", scene_shared},
    {"forked shared memory", scene_shared_forked},
    {"a shared file", scene_file},
    {"a private file", scene_private_file},
    {"a file that is too short", scene_short_file},
    {"locked memory", scene_locked},
};

/* ---- Operations ------------------------------------------------------------------------ */

static int
op_map(struct scene *scene)
{
    return (int)sim_map(scene->sim, 20, 4, SIM_W);
}

static int
op_map_over(struct scene *scene)
{
    return (int)sim_map(scene->sim, 4, 4, SIM_R);
}

static int
request_map(struct scene *scene, struct qr_map_request request)
{
    qr_va va;

    request.bytes = 6 * QR_PAGE_SIZE;
    request.prot = SIM_W;
    return (int)qr_space_map(scene->space, &request, &va);
}

static int
op_map_anywhere(struct scene *scene)
{
    return request_map(scene, (struct qr_map_request){.flags = 0});
}

static int
op_map_populate(struct scene *scene)
{
    return request_map(scene, (struct qr_map_request){.flags = QR_MAP_POPULATE});
}

static int
op_map_noreplace(struct scene *scene)
{
    return request_map(
        scene, (struct qr_map_request){.hint = sim_page(8), .flags = QR_MAP_FIXED_NOREPLACE});
}

static int
op_map_shared(struct scene *scene)
{
    return request_map(scene, (struct qr_map_request){.region_flags = QR_REGION_SHARED});
}

static int
op_map_over_shared(struct scene *scene)
{
    return (int)sim_map_shared(scene->sim, 2, 7, SIM_W);
}

static int
op_unmap_middle(struct scene *scene)
{
    return (int)sim_unmap(scene->sim, 4, 7);
}

static int
op_unmap_all(struct scene *scene)
{
    return (int)sim_unmap(scene->sim, 0, 100);
}

static int
op_protect_middle(struct scene *scene)
{
    return (int)sim_protect(scene->sim, 1, 4, SIM_N);
}

static int
op_protect_all(struct scene *scene)
{
    return (int)sim_protect(scene->sim, 0, SCENE_PAGES, SIM_R);
}

static int
op_protect_writable(struct scene *scene)
{
    return (int)sim_protect(scene->sim, 0, 4, SIM_W);
}

static int
remap(struct scene *scene, size_t old_pages, size_t new_pages, unsigned flags)
{
    struct qr_remap_request request = {
        .old_start = sim_page(0),
        .old_bytes = old_pages * QR_PAGE_SIZE,
        .new_bytes = new_pages * QR_PAGE_SIZE,
        .flags = flags,
        .new_start = sim_page(40),
    };
    qr_va va;

    return (int)qr_space_remap(scene->space, &request, &va);
}

static int
op_remap_shrink(struct scene *scene)
{
    return remap(scene, 4, 2, 0);
}

static int
op_remap_grow(struct scene *scene)
{
    return remap(scene, 3, 30, QR_REMAP_MAY_MOVE);
}

static int
op_remap_fixed(struct scene *scene)
{
    return remap(scene, 3, 3, QR_REMAP_MAY_MOVE | QR_REMAP_FIXED);
}

static int
op_remap_keep(struct scene *scene)
{
    return remap(scene, 3, 3, QR_REMAP_MAY_MOVE | QR_REMAP_DONT_UNMAP);
}

static int
op_brk_grow(struct scene *scene)
{
    qr_va now = qr_space_brk(scene->space, sim_page(60 + 5));

    return now.v == sim_page(65).v ? (int)QR_OK : (int)QR_ERR_NO_MEMORY;
}

static int
op_fork(struct scene *scene)
{
    struct qr_space *child;
    enum qr_status status = qr_space_fork(scene->space, &child);

    if (status == QR_OK)
        sim_space_destroy(scene->sim, child);
    return (int)status;
}

static int
op_create(struct scene *scene)
{
    struct qr_space *space = sim_space_create(scene->sim);

    if (space == NULL)
        return (int)QR_ERR_NO_MEMORY;
    sim_space_destroy(scene->sim, space);
    return (int)QR_OK;
}

static int
advise(struct scene *scene, size_t first, size_t last, enum qr_advice advice)
{
    return (int)qr_space_advise(scene->space, sim_page(first), (last - first) * QR_PAGE_SIZE,
                                advice);
}

static int
op_dont_need(struct scene *scene)
{
    return advise(scene, 2, 6, QR_ADVICE_DONT_NEED);
}

static int
op_dont_fork(struct scene *scene)
{
    return advise(scene, 2, 6, QR_ADVICE_DONT_FORK);
}

static int
op_random(struct scene *scene)
{
    return advise(scene, 1, 3, QR_ADVICE_RANDOM);
}

static int
op_populate_read(struct scene *scene)
{
    return advise(scene, 0, 4, QR_ADVICE_POPULATE_READ);
}

static int
op_populate_write(struct scene *scene)
{
    return advise(scene, 0, 4, QR_ADVICE_POPULATE_WRITE);
}

static int
op_remove(struct scene *scene)
{
    return advise(scene, 2, 4, QR_ADVICE_REMOVE);
}

static int
op_lock(struct scene *scene)
{
    return (int)qr_space_lock_pages(scene->space, sim_page(1), 3 * QR_PAGE_SIZE, QR_LOCK_NOW);
}

static int
op_unlock(struct scene *scene)
{
    return (int)qr_space_lock_pages(scene->space, sim_page(3), 2 * QR_PAGE_SIZE, QR_UNLOCK);
}

static int
op_lock_all(struct scene *scene)
{
    return (int)qr_space_lock_all(scene->space, QR_LOCK_NOW, QR_LOCK_NOW);
}

static int
op_resident(struct scene *scene)
{
    uint8_t present[4];

    return (int)qr_space_resident(scene->space, sim_page(1), 4, present);
}

static int
op_sync(struct scene *scene)
{
    return (int)qr_space_sync(scene->space, sim_page(0), 4 * QR_PAGE_SIZE, true, false);
}

static int
fault_result(enum sim_signal signal)
{
    return signal == SIM_OOM ? (int)QR_ERR_NO_MEMORY : 100 + (int)signal;
}

static int
op_write_fault(struct scene *scene)
{
    return fault_result(sim_touch(scene->sim, 2, QR_ACCESS_WRITE));
}

static int
op_write_fault_elsewhere(struct scene *scene)
{
    return fault_result(sim_touch(scene->sim, 8, QR_ACCESS_WRITE));
}

static int
op_read_fault(struct scene *scene)
{
    return fault_result(sim_touch(scene->sim, 7, QR_ACCESS_READ));
}

static int
op_exec_fault(struct scene *scene)
{
    return fault_result(sim_touch(scene->sim, 7, QR_ACCESS_EXEC));
}

static int
op_copy_in(struct scene *scene)
{
    unsigned char bytes[3 * QR_PAGE_SIZE];
    uint64_t refused;

    memset(bytes, 0xa5, sizeof(bytes));
    refused = sim_refused(scene->sim);
    size_t left = qr_copy_to_user(qr_va_of(sim_page(3).v + 100), bytes, sizeof(bytes));

    if (left != 0 && sim_refused(scene->sim) != refused)
        return (int)QR_ERR_NO_MEMORY;
    return 200 + (int)(left % 97);
}

static int
op_copy_out(struct scene *scene)
{
    unsigned char bytes[3 * QR_PAGE_SIZE];
    uint64_t refused = sim_refused(scene->sim);
    size_t left = qr_copy_from_user(bytes, qr_va_of(sim_page(3).v + 100), sizeof(bytes));

    if (left != 0 && sim_refused(scene->sim) != refused)
        return (int)QR_ERR_NO_MEMORY;
    return 200 + (int)(left % 97);
}

static int
op_get_frame(struct scene *scene)
{
    struct qr_frame *frame;
    enum qr_status status =
        qr_space_get_frame(scene->space, sim_page(5), QR_ACCESS_WRITE, true, &frame);

    if (status == QR_OK)
        qr_frame_put(sim_frames(scene->sim), frame);
    return (int)status;
}

static int
op_object_write(struct scene *scene)
{
    size_t done = 0;
    int fill = 'w';

    if (scene->object == NULL)
        return (int)QR_OK;
    return (int)qr_object_write(scene->object, 4 * QR_PAGE_SIZE + 50, 2 * QR_PAGE_SIZE, copy_zeros,
                                &fill, &done);
}

static int
op_object_shrink(struct scene *scene)
{
    if (scene->object != NULL)
        qr_object_set_bytes(scene->object, 3 * QR_PAGE_SIZE + 7);
    return (int)QR_OK;
}

static int
op_object_punch(struct scene *scene)
{
    if (scene->object != NULL)
        qr_object_punch(scene->object, 1, 4);
    return (int)QR_OK;
}

static int
op_object_create(struct scene *scene)
{
    struct qr_object *object;
    size_t done = 0;
    int fill = 'n';
    enum qr_status status =
        qr_object_create(sim_objects(scene->sim), &qr_pager_memory, NULL, 1 << 20, &object);

    if (status != QR_OK)
        return (int)status;
    status = qr_object_write(object, 70 * QR_PAGE_SIZE, 2 * QR_PAGE_SIZE, copy_zeros, &fill, &done);
    qr_object_put(object);
    return (int)status;
}

static int
op_device(struct scene *scene)
{
    struct qr_object *object;
    enum qr_status status = qr_object_create_device(sim_objects(scene->sim), qr_pa_of(0xfe000000),
                                                    8 * QR_PAGE_SIZE, QR_CACHE_UNCACHED, &object);

    if (status != QR_OK)
        return (int)status;
    status = sim_map_object(scene->sim, 30, 4, SIM_R, object, 1);
    qr_object_put(object);
    return (int)status;
}

static int
op_clear(struct scene *scene)
{
    qr_space_clear(scene->space);
    return (int)QR_OK;
}

static int
op_stack(struct scene *scene)
{
    struct qr_map_request request = {
        .hint = sim_page(3000),
        .bytes = QR_PAGE_SIZE,
        .prot = SIM_W,
        .flags = QR_MAP_FIXED,
        .region_flags = QR_REGION_GROWS_DOWN | QR_REGION_STACK,
    };
    qr_va va;
    enum qr_status status = qr_space_map(scene->space, &request, &va);

    if (status != QR_OK)
        return (int)status;
    return fault_result(sim_touch(scene->sim, 2990, QR_ACCESS_WRITE));
}

enum half_way { WHOLE, HALF_WAY };

static const struct {
    const char *name;
    int (*run)(struct scene *scene);
    enum half_way half_way;
} operations[] = {
    {"map", op_map, WHOLE},
    {"map over what is there", op_map_over, WHOLE},
    {"map anywhere", op_map_anywhere, WHOLE},
    {"map and populate", op_map_populate, WHOLE},
    {"map without replacing", op_map_noreplace, WHOLE},
    {"map shared", op_map_shared, WHOLE},
    {"map shared over what is there", op_map_over_shared, WHOLE},
    {"unmap the middle", op_unmap_middle, WHOLE},
    {"unmap everything", op_unmap_all, WHOLE},
    {"protect the middle", op_protect_middle, WHOLE},
    {"protect everything", op_protect_all, HALF_WAY}, /* region by region, as Linux */
    {"make writable", op_protect_writable, HALF_WAY},
    {"shrink by remap", op_remap_shrink, WHOLE},
    {"grow by remap", op_remap_grow, WHOLE},
    {"move by remap", op_remap_fixed, HALF_WAY}, /* what stood at the target is gone */
    {"move and keep by remap", op_remap_keep, WHOLE},
    {"grow the heap", op_brk_grow, WHOLE},
    {"fork", op_fork, WHOLE},
    {"create a space", op_create, WHOLE},
    {"drop pages", op_dont_need, HALF_WAY},
    {"advise not to fork", op_dont_fork, HALF_WAY},
    {"advise random", op_random, HALF_WAY},
    {"populate for reading", op_populate_read, HALF_WAY},
    {"populate for writing", op_populate_write, HALF_WAY},
    {"punch a hole by advice", op_remove, HALF_WAY},
    {"lock pages", op_lock, HALF_WAY},
    {"unlock pages", op_unlock, HALF_WAY},
    {"lock everything", op_lock_all, HALF_WAY},
    {"ask what is resident", op_resident, WHOLE},
    {"sync", op_sync, WHOLE},
    {"write", op_write_fault, WHOLE},
    {"write elsewhere", op_write_fault_elsewhere, WHOLE},
    {"read", op_read_fault, WHOLE},
    {"execute", op_exec_fault, WHOLE},
    {"copy to user", op_copy_in, HALF_WAY},
    {"copy from user", op_copy_out, WHOLE},
    {"get a frame", op_get_frame, WHOLE},
    {"write the object", op_object_write, HALF_WAY},
    {"shrink the object", op_object_shrink, WHOLE},
    {"punch the object", op_object_punch, WHOLE},
    {"create and fill an object", op_object_create, WHOLE},
    {"map a device", op_device, WHOLE},
    {"clear the space", op_clear, WHOLE},
    {"grow a stack", op_stack, HALF_WAY}, /* two steps: mapped, then touched */
};

/* ---- The loop --------------------------------------------------------------------------- */

struct outcome {
    int result;
    uint64_t before, after, refused;
};

struct scenario {
    size_t scene, operation;
    uint64_t nth;
    enum sim_refusal mode;
    struct outcome outcome;
};

static void
scenario_run(void *context)
{
    struct scenario *scenario = context;
    struct scene scene = {.child = NULL};
    struct outcome *outcome = &scenario->outcome;

    scene.sim = sim_boot((struct sim_options){.features = SIM_NO_VALIDATE, .frames = 640});
    scene.space = sim_space(scene.sim);
    qr_space_set_brk(scene.space, sim_page(60));
    scenes[scenario->scene].make(&scene);
    outcome->before = sim_state_hash(scene.sim);
    sim_refuse_nth(scene.sim, scenario->nth, scenario->mode);
    outcome->result = operations[scenario->operation].run(&scene);
    outcome->refused = sim_refused(scene.sim);
    sim_refuse_nth(scene.sim, 0, SIM_REFUSE_ONCE);
    outcome->after = sim_state_hash(scene.sim);
    sim_validate(scene.sim);
    if (scene.child != NULL)
        sim_space_destroy(scene.sim, scene.child);
    if (scene.object != NULL)
        qr_object_put(scene.object);
    sim_shutdown(scene.sim);
}

static bool
scenario_try(struct scenario *scenario)
{
    char message[400];

    if (!sim_catch(scenario_run, scenario, message, sizeof(message)))
        return true;
    TEST_FAIL("%s, with %s, allocation %llu refused %s: %s", operations[scenario->operation].name,
              scenes[scenario->scene].name, (unsigned long long)scenario->nth,
              scenario->mode == SIM_REFUSE_ONCE ? "once" : "from then on", message);
    return false;
}

/* Linux says EAGAIN where advice or a lock found no memory. */
static bool
result_is_no_memory(int result)
{
    return result == (int)QR_ERR_NO_MEMORY || result == (int)QR_ERR_AGAIN;
}

static void
scenario_judge(const struct scenario *scenario, const struct outcome *normal)
{
    const struct outcome *got = &scenario->outcome;
    const char *wrong = NULL;
    bool half_way = operations[scenario->operation].half_way == HALF_WAY;

    if (result_is_no_memory(got->result)) {
        /* A hole gives the same status as missing memory: then the usual state will do, too. */
        if (!half_way && got->after != got->before &&
            (got->result != normal->result || got->after != normal->after))
            wrong = "no memory, but the state has changed";
    } else if (got->result != normal->result) {
        wrong = "neither the usual result nor that of no memory";
    } else if (got->after != normal->after) {
        wrong = "the usual result, but another state";
    }
    if (wrong != NULL)
        TEST_FAIL("%s, with %s, allocation %llu refused %s: %s (%d; usually %d)",
                  operations[scenario->operation].name, scenes[scenario->scene].name,
                  (unsigned long long)scenario->nth,
                  scenario->mode == SIM_REFUSE_ONCE ? "once" : "from then on", wrong, got->result,
                  normal->result);
}

/* Returns how often something was refused. */
static unsigned
scenario_loop(size_t scene, size_t operation)
{
    struct scenario normal = {.scene = scene, .operation = operation, .nth = UINT64_MAX};
    unsigned refusals = 0;

    if (!scenario_try(&normal))
        return 0;
    for (unsigned mode = 0; mode < 2; mode++) {
        for (uint64_t nth = 1; nth < LIMIT; nth++) {
            struct scenario scenario = normal;

            scenario.nth = nth;
            scenario.mode = mode == 0 ? SIM_REFUSE_ONCE : SIM_REFUSE_FROM_THEN_ON;
            if (!scenario_try(&scenario))
                return refusals;
            if (scenario.outcome.refused == 0)
                break;
            refusals++;
            scenario_judge(&scenario, &normal.outcome);
        }
    }
    return refusals;
}

TEST(refusal, every_allocation_of_every_operation_on_every_scene)
{
    unsigned scenarios = 0, refusals = 0;

    for (size_t scene = 0; scene < QR_ARRAY_COUNT(scenes); scene++) {
        for (size_t operation = 0; operation < QR_ARRAY_COUNT(operations); operation++) {
            refusals += scenario_loop(scene, operation);
            scenarios++;
        }
    }
    test_print("     %u scenarios, %u refusals\n", scenarios, refusals);
    EXPECT_GE(scenarios, 200);
    EXPECT_GE(refusals, 500); /* about 1000 with four levels of tables, fewer with two */
}
