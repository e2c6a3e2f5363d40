/* SPDX-License-Identifier: MIT */
/*
 * sqlite_run DATABASE: Debian's SQLite, linked statically, on a database that it
 * maps into memory; the results are checked against what the arithmetic says.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sqlite3 *database;

static void
run(const char *sql)
{
    char *message = NULL;

    if (sqlite3_exec(database, sql, NULL, NULL, &message) != SQLITE_OK) {
        fprintf(stderr, "sqlite_run: %s: %s\n", sql, message);
        exit(1);
    }
}

static long long
ask(const char *sql)
{
    sqlite3_stmt *statement;
    long long value = -1;

    if (sqlite3_prepare_v2(database, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
}

static void
expect(const char *sql, long long wanted)
{
    long long got = ask(sql);

    if (got == wanted)
        return;
    fprintf(stderr, "sqlite_run: %s: got %lld, wanted %lld\n", sql, got, wanted);
    exit(1);
}

#define ROWS 20000ll

int
main(int argc, char **argv)
{
    if (argc != 2 || sqlite3_open(argv[1], &database) != SQLITE_OK)
        return 2;
    run("PRAGMA mmap_size = 16777216");
    run("PRAGMA journal_mode = DELETE");
    run("CREATE TABLE numbers (id INTEGER PRIMARY KEY, square INTEGER, text TEXT)");
    run("BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
        "INSERT INTO numbers SELECT i, i * i, printf('%08d', i) FROM n; COMMIT");
    run("CREATE INDEX by_text ON numbers (text)");
    expect("SELECT count(*) FROM numbers", ROWS);
    expect("SELECT sum(square) FROM numbers", ROWS * (ROWS + 1) * (2 * ROWS + 1) / 6);
    expect("SELECT id FROM numbers WHERE text = '00012345'", 12345);
    run("BEGIN; DELETE FROM numbers WHERE id % 3 = 0; ROLLBACK");
    expect("SELECT count(*) FROM numbers", ROWS);
    run("DELETE FROM numbers WHERE id % 3 = 0");
    run("VACUUM");
    expect("SELECT count(*) FROM numbers", ROWS - ROWS / 3);
    expect("SELECT count(*) FROM numbers a JOIN numbers b ON b.id = a.square WHERE a.id < 100", 66);

    sqlite3_close(database);
    if (sqlite3_open(argv[1], &database) != SQLITE_OK)
        return 1;
    run("PRAGMA mmap_size = 16777216");
    expect("PRAGMA mmap_size", 16777216);
    expect("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'", 1);
    sqlite3_close(database);
    printf("sqlite: all checks passed\n");
    return 0;
}
