# SPDX-License-Identifier: MIT
#
# For a kernel whose build is plain make.  Include this file after setting
#
#   QUIRE_DIR      where this file lies
#   QUIRE_CONFIG   the configuration: `CONFIG_X=value` lines, as in configs/
#                  (default: configs/x86_64_defconfig)
#   QUIRE_BUILD    where objects go (default: quire-build)
#   QUIRE_CC       the compiler (default: $(CC))
#   QUIRE_CFLAGS   the kernel's own flags for it
#   QUIRE_CPPFLAGS anything more, such as -DQR_PORT_INLINE_HEADER=...
#
# and it gives
#
#   $(QUIRE_LIB)      the archive, with a rule that makes it
#   $(QUIRE_INCLUDES) the -I flags that its users need
#
# The sources are those of src/sources.txt, the configuration is made by Kconfig
# (Debian: python3-kconfiglib).

QUIRE_DIR ?= .
QUIRE_CONFIG ?= $(QUIRE_DIR)/configs/x86_64_defconfig
QUIRE_BUILD ?= quire-build
QUIRE_CC ?= $(CC)
QUIRE_PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)

QUIRE_AUTOCONF := $(QUIRE_BUILD)/include/quire/autoconf.h
QUIRE_DOTCONFIG := $(QUIRE_BUILD)/config
QUIRE_LIB := $(QUIRE_BUILD)/libquire.a
QUIRE_INCLUDES := -I$(QUIRE_DIR)/include -I$(QUIRE_BUILD)/include

# Made now, not by a rule: which sources there are depends on it.
QUIRE_CONFIGURED := $(shell mkdir -p $(QUIRE_BUILD)/include/quire && \
    KCONFIG_CONFIG=$(QUIRE_CONFIG) srctree=$(QUIRE_DIR) $(QUIRE_PYTHON) -m genconfig \
    --header-path $(QUIRE_AUTOCONF) --config-out $(QUIRE_DOTCONFIG) Kconfig \
    >$(QUIRE_BUILD)/kconfig.log 2>&1 && echo yes)
ifneq ($(QUIRE_CONFIGURED),yes)
$(error quire.mk: Kconfig failed, see $(QUIRE_BUILD)/kconfig.log)
endif

# A line is `path` or `path CONFIG_X`.
QUIRE_SOURCES := $(shell awk 'NR == FNR { if (sub("=y$$", "")) on[$$1] = 1; next } \
    /^[a-z]/ && (NF == 1 || $$2 in on) { print $$1 }' $(QUIRE_DOTCONFIG) $(QUIRE_DIR)/src/sources.txt)
QUIRE_OBJECTS := $(QUIRE_SOURCES:%.c=$(QUIRE_BUILD)/%.o)

$(QUIRE_OBJECTS): $(QUIRE_BUILD)/%.o: $(QUIRE_DIR)/%.c $(QUIRE_DOTCONFIG)
	@mkdir -p $(dir $@)
	$(QUIRE_CC) -std=gnu11 -ffreestanding -fno-strict-aliasing -MMD -MP $(QUIRE_INCLUDES) \
	    -I$(QUIRE_DIR)/src $(QUIRE_CPPFLAGS) $(QUIRE_CFLAGS) -c -o $@ $<

$(QUIRE_LIB): $(QUIRE_OBJECTS)
	@rm -f $@
	$(AR) rcs $@ $^

-include $(QUIRE_OBJECTS:.o=.d)
