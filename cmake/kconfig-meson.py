#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""For meson.build: make generated/quire/autoconf.h, print the sources it leaves in.

    kconfig-meson.py CONFIG SOURCE_DIR BUILD_DIR
"""

import os
import subprocess
import sys


def main():
    config, source, build = sys.argv[1:]
    generated = os.path.join(build, "generated", "quire")
    os.makedirs(generated, exist_ok=True)
    dotconfig = os.path.join(build, "quire.config")
    subprocess.run(
        [sys.executable, "-m", "genconfig", "--header-path", os.path.join(generated, "autoconf.h"),
         "--config-out", dotconfig, os.path.join(source, "Kconfig")],
        env={**os.environ, "KCONFIG_CONFIG": config, "srctree": source}, check=True,
        stdout=sys.stderr)
    with open(dotconfig, encoding="utf-8") as file:
        on = {line.split("=")[0] for line in file if line.rstrip().endswith("=y")}
    with open(os.path.join(source, "src", "sources.txt"), encoding="utf-8") as file:
        for line in file:
            words = line.split("#")[0].split()
            if words and (len(words) == 1 or words[1] in on):
                print(words[0])


if __name__ == "__main__":
    sys.exit(main())
