"""A file system whose locks fail, or hold nobody back, for the processes that are given it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* 0 and errno where the lock is another file system's, 1 where it is granted, -1 where it fails. */
static int answer(int fd) {
    char link[64], path[PATH_MAX] = "";
    const char *under = getenv("LOCKS_UNDER"), *mode = getenv("LOCKS_MODE");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (!under || !mode || readlink(link, path, sizeof path - 1) < 0) return 0;
    if (strncmp(path, under, strlen(under))) return 0;
    if (!strcmp(mode, "ENOLCK")) errno = ENOLCK;
    else if (!strcmp(mode, "ENOSYS")) errno = ENOSYS;
    else if (!strcmp(mode, "EOPNOTSUPP")) errno = EOPNOTSUPP;
    else return 1;
    return -1;
}

int flock(int fd, int operation) {
    int found = answer(fd);
    if (!found) return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(fd, operation);
    return found < 0 ? -1 : 0;
}

static int locks(int command) {
    return command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK
        || command == F_OFD_SETLKW;
}

#define WRAP(name)                                                                            \
    int name(int fd, int command, ...) {                                                      \
        va_list rest;                                                                         \
        va_start(rest, command);                                                              \
        void *argument = va_arg(rest, void *);                                                \
        va_end(rest);                                                                         \
        int found = locks(command) ? answer(fd) : 0;                                          \
        if (found) return found < 0 ? -1 : 0;                                                 \
        return ((int (*)(int, int, void *))dlsym(RTLD_NEXT, #name))(fd, command, argument);   \
    }
WRAP(fcntl)
WRAP(fcntl64)
"""


def preloaded(build: Path, under: Path, mode: str) -> dict[str, str]:
    """The environment of a process for which locks under a folder are such.

    Args:
        build: Where the shim is compiled.
        under: The folder.
        mode: ENOLCK, ENOSYS, EOPNOTSUPP, or else locks are granted to all.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler, to have locks fail")
    source, library = build / "locks.c", build / "locks.so"
    source.write_text(_SHIM)
    flags = ["-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    done = subprocess.run([compiler, *flags], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the C compiler cannot have locks fail: {done.stderr[-200:]}")
    where = {"LOCKS_UNDER": str(under.resolve()), "LOCKS_MODE": mode}
    return os.environ | {"LD_PRELOAD": str(library)} | where
