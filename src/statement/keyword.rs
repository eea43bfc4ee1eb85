//! Keywords as numbers: every word of a text is compared with some of them.

pub(super) const ABORT: u64 = key(b"abort");
pub(super) const AS: u64 = key(b"as");
pub(super) const BEGIN: u64 = key(b"begin");
pub(super) const COMMIT: u64 = key(b"commit");
pub(super) const COPY: u64 = key(b"copy");
pub(super) const DELETE: u64 = key(b"delete");
pub(super) const DISCARD: u64 = key(b"discard");
pub(super) const END: u64 = key(b"end");
pub(super) const EXECUTE: u64 = key(b"execute");
pub(super) const EXPLAIN: u64 = key(b"explain");
pub(super) const FOR: u64 = key(b"for");
pub(super) const INSERT: u64 = key(b"insert");
pub(super) const INTO: u64 = key(b"into");
pub(super) const KEY: u64 = key(b"key");
pub(super) const LOAD: u64 = key(b"load");
pub(super) const MERGE: u64 = key(b"merge");
pub(super) const NO: u64 = key(b"no");
pub(super) const PREPARE: u64 = key(b"prepare");
pub(super) const RELEASE: u64 = key(b"release");
pub(super) const RESET: u64 = key(b"reset");
pub(super) const ROLLBACK: u64 = key(b"rollback");
pub(super) const SELECT: u64 = key(b"select");
pub(super) const SET: u64 = key(b"set");
pub(super) const SHARE: u64 = key(b"share");
pub(super) const SHOW: u64 = key(b"show");
pub(super) const START: u64 = key(b"start");
pub(super) const TABLE: u64 = key(b"table");
pub(super) const UPDATE: u64 = key(b"update");
pub(super) const VALUES: u64 = key(b"values");
pub(super) const WITH: u64 = key(b"with");

/// A word of up to eight bytes as a number, the same for either case; 0 for a longer one.
///
/// The bit that is set turns capital letters into small ones and no other character of a name
/// into a letter. Keywords fold by ASCII alone, whatever the locale (`ScanKeywordLookup`).
#[inline]
pub(super) const fn key(word: &[u8]) -> u64 {
    if word.len() > 8 {
        return 0;
    }
    let mut key = 0;
    let mut at = 0;
    while at < word.len() {
        key = key << 8 | (word[at] | 0x20) as u64;
        at += 1;
    }
    key
}
