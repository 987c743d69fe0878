"""The scratch folder: the one place where a program can write, how full it is, and how it is emptied."""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    bytes: int
    inodes: int


class Scratch:
    """One slot's folder. On a file system of its own (the pod's tmpfs) usage is one call and counts deleted
    files that are still open; elsewhere the folder is walked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_mount = os.stat(path).st_dev != os.stat(path.parent).st_dev
        self._empty = Usage(0, 0)  # what its file system uses by itself; known after the first wipe

    def usage(self, max_inodes: int, deleted_bytes: int = 0) -> Usage:
        """Bytes and inodes in use; the walk stops counting above `max_inodes`.

        A folder that is closed to us or too deep to be named is as many: else it would be where to hide bytes.
        `deleted_bytes` are those of open files that a walk cannot find.
        """
        if self.is_mount:
            now = self._of_file_system()
            return Usage(now.bytes - self._empty.bytes, now.inodes - self._empty.inodes)
        walked = self._walk(max_inodes)
        return Usage(walked.bytes + deleted_bytes, walked.inodes)

    def _of_file_system(self) -> Usage:
        state = os.statvfs(self.path)
        return Usage((state.f_blocks - state.f_bfree) * state.f_frsize, state.f_files - state.f_ffree)

    def _walk(self, max_inodes: int) -> Usage:
        size, inodes = 0, 0
        pending = [str(self.path)]
        while pending and inodes <= max_inodes:
            try:
                with os.scandir(pending.pop()) as entries:
                    for entry in entries:
                        inodes += 1
                        state = entry.stat(follow_symlinks=False)
                        size += state.st_blocks * 512
                        if stat.S_ISDIR(state.st_mode):
                            pending.append(entry.path)
            except (FileNotFoundError, NotADirectoryError):  # the program removed it meanwhile
                continue
            except OSError:
                return Usage(size, max_inodes + 1)
        return Usage(size, inodes)

    def wipe(self) -> None:
        """Removes all below the folder, whatever its modes, names and depth. Follows no link.

        Raises OSError where something cannot be removed.
        """
        state = self.path.lstat()
        if state.st_uid == os.getuid() and not stat.S_ISLNK(state.st_mode):
            self.path.chmod(0o700)  # the program may have closed it, to us too; a volume's root is not its to change
        root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _empty_folder(root)
        finally:
            os.close(root)
        if self.is_mount:
            self._empty = self._of_file_system()

    def is_empty(self) -> bool:
        with os.scandir(self.path) as entries:
            return next(entries, None) is None


def _empty_folder(root: int) -> None:
    """Folders are moved up beside their parent before they are entered, so that no depth and no path is too long."""
    serial = 0
    while True:
        names = os.listdir(root)
        if not names:
            return
        for name in names:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=root).st_mode):
                os.unlink(name, dir_fd=root)
                continue
            serial = _flatten(root, name, serial)


def _flatten(root: int, name: str, serial: int) -> int:
    """Empties one folder of files, moves its folders into `root`, removes it. Returns the next free serial."""
    os.chmod(name, 0o700, dir_fd=root)
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    try:
        for inner in os.listdir(folder):
            if stat.S_ISDIR(os.lstat(inner, dir_fd=folder).st_mode):
                os.chmod(inner, 0o700, dir_fd=folder)  # a folder that is moved must be writable: its `..` changes
                serial = _move_up(inner, folder, root, serial)
            else:
                os.unlink(inner, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=root)
    return serial


def _move_up(name: str, folder: int, root: int, serial: int) -> int:
    """To the first free name after `serial`, which is returned. An empty folder of that name may be taken over."""
    while True:
        serial += 1
        try:
            os.rename(name, f".wipe-{serial}", src_dir_fd=folder, dst_dir_fd=root)
            return serial
        except OSError as fault:
            if fault.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
