"""One door to files: places, whole-or-absent reads and writes, fingerprints, locks.

::

    a string ──locate──▶ Path or Url ──read_…, write_…, staged──▶ bytes, text, JSON
                 │
          access: allow-list of protocols and hosts

``access`` says which places strings may name, ``places`` makes places of strings, ``files`` reads and writes them,
``fingerprints`` names their content, ``locks`` keeps two processes from preparing one folder.
"""

from lst.storage.access import PlaceError, allow
from lst.storage.files import (
    STAGING_SUFFIX,
    cache_dir,
    check_free_space,
    disk_full_error,
    exists,
    fetch,
    find_files,
    fsync_folder,
    list_sizes,
    local_copy,
    modified_s,
    open_binary,
    read_bytes,
    read_json,
    read_jsonl,
    read_range,
    read_text,
    remove,
    save_with,
    sha256,
    size,
    staged,
    write_bytes,
    write_json,
    write_jsonl,
    write_text,
)
from lst.storage.fingerprints import differing_settings, files_fingerprint, fingerprint
from lst.storage.places import Folder, Location, Url, absolute, expanded, is_url, locate, named_in

__all__ = [
    "STAGING_SUFFIX",
    "Folder",
    "Location",
    "PlaceError",
    "Url",
    "absolute",
    "allow",
    "cache_dir",
    "check_free_space",
    "differing_settings",
    "disk_full_error",
    "exists",
    "expanded",
    "fetch",
    "files_fingerprint",
    "find_files",
    "fingerprint",
    "fsync_folder",
    "is_url",
    "list_sizes",
    "local_copy",
    "locate",
    "modified_s",
    "named_in",
    "open_binary",
    "read_bytes",
    "read_json",
    "read_jsonl",
    "read_range",
    "read_text",
    "remove",
    "save_with",
    "sha256",
    "size",
    "staged",
    "write_bytes",
    "write_json",
    "write_jsonl",
    "write_text",
]
