//! What is said when a store cannot be opened: which disk it needs, and what to do about an error.

use std::path::Path;

use rusqlite::ErrorCode;
use rustix::fs::statfs;

/// Kinds of file systems that several machines share (`statfs(2)`).
const SHARED: [(i64, &str); 6] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB 2"),
    (0x5346_414f, "AFS"),
    (0x0bd0_0bd0, "Lustre"),
];

/// Refuses a directory on a network file system: its locks and its shared memory are not those that SQLite relies on, and
/// what it syncs may not be on a disk.
///
/// # Errors
/// It is on one.
pub(super) fn check_local(directory: &Path) -> Result<(), String> {
    let Ok(found) = statfs(directory) else { return Ok(()) };
    let Some(kind) = shared(found.f_type) else { return Ok(()) };
    Err(format!(
        "it is on {kind}, a network file system, on which SQLite can lose what it has stored: use a local disk or a block \
         volume"
    ))
}

fn shared(kind: i64) -> Option<&'static str> {
    // Some systems extend the sign of the 32-bit number.
    let kind = kind & 0xffff_ffff;
    SHARED.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// SQLite's error with what to do about it.
pub(super) fn explained(error: &rusqlite::Error) -> String {
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            "the file is damaged, and was left as it is: put a backup in its place, or move it away to start without what it \
             remembers"
        }
        Some(ErrorCode::DiskFull) => "make room on the disk",
        Some(ErrorCode::SystemIoFailure) => "the disk is full or failing: make room, or replace it",
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "the directory and its files must be writable for this user"
        }
        _ => return error.to_string(),
    };
    format!("{error}: {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known() {
        assert_eq!(
            (shared(0x6969), shared(0xff53_4d42), shared(-0x00ac_b2be)),
            (Some("NFS"), Some("CIFS"), Some("CIFS"))
        );
        for local in [0xef53, 0x0102_1994, 0x794c_7630, 0x5846_5342, 0x9123_683e] {
            assert_eq!(shared(local), None, "ext4, tmpfs, overlay, xfs, btrfs");
        }
        assert!(check_local(Path::new("/")).is_ok());
    }
}
