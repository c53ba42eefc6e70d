"""One door to files: places, whole-or-absent reads and writes, fingerprints, locks.

::

    a string ──locate──▶ Path or Url ──read_…, write_…, staged──▶ bytes, text, JSON
                 │
          access: allow-list of protocols and hosts

``access`` says which places strings may name, ``places`` makes places of strings, ``files`` reads and writes them,
``folders`` makes and removes whole local folders, ``typed`` holds JSON files to the types that document their formats,
``fingerprints`` names the content of files, ``listing`` lists all files of a corpus once, and ``locks`` lets one
process at a time prepare a folder.
"""

from lst.storage.access import PlaceError, allow
from lst.storage.files import (
    STAGING_SUFFIX,
    append_bytes,
    cache_dir,
    check_free_space,
    clear_partial_files,
    disk_full_error,
    exists,
    fetch,
    fsync_folder,
    full_disk_named,
    list_sizes,
    local_copy,
    modified_s,
    open_binary,
    open_descriptor,
    read_bytes,
    read_foreign,
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
from lst.storage.fingerprints import differing_settings, fingerprint, flat_settings
from lst.storage.folders import copy_folder, remove_folder, staged_folder
from lst.storage.listing import FileList, files_fingerprint, list_files
from lst.storage.named_places import is_several, joined_places, listed_places, named_places, place_list_problems
from lst.storage.places import Folder, Location, Url, absolute, expanded, is_url, leads_out, locate, named_in
from lst.storage.temporary import TemporaryBytes
from lst.storage.typed import Between, Count, FormatError, OtherVersionError, Seconds, parse_json, read_json, read_jsonl

__all__ = [
    "STAGING_SUFFIX",
    "Between",
    "Count",
    "FileList",
    "Folder",
    "FormatError",
    "Location",
    "OtherVersionError",
    "PlaceError",
    "Seconds",
    "TemporaryBytes",
    "Url",
    "absolute",
    "allow",
    "append_bytes",
    "cache_dir",
    "check_free_space",
    "clear_partial_files",
    "copy_folder",
    "differing_settings",
    "disk_full_error",
    "exists",
    "expanded",
    "fetch",
    "files_fingerprint",
    "fingerprint",
    "flat_settings",
    "fsync_folder",
    "full_disk_named",
    "is_several",
    "is_url",
    "joined_places",
    "leads_out",
    "list_files",
    "list_sizes",
    "listed_places",
    "local_copy",
    "locate",
    "modified_s",
    "named_in",
    "named_places",
    "open_binary",
    "open_descriptor",
    "parse_json",
    "place_list_problems",
    "read_bytes",
    "read_foreign",
    "read_json",
    "read_jsonl",
    "read_range",
    "read_text",
    "remove",
    "remove_folder",
    "save_with",
    "sha256",
    "size",
    "staged",
    "staged_folder",
    "write_bytes",
    "write_json",
    "write_jsonl",
    "write_text",
]
