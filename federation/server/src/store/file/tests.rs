//! The store on a disk that fails, is cut, or is full; and on real files.

use super::*;
use crate::store::documents::DocumentKind;
use redb::StorageBackend;
use std::sync::{Arc, Mutex, MutexGuard};

type Documents = BTreeMap<DocumentKey, Vec<u8>>;

fn key(name: &str) -> DocumentKey {
    DocumentKey::new(DocumentKind::Resource, name)
}

fn batch(puts: &[(&str, &str)], deletes: &[&str]) -> WriteBatch {
    let mut batch = WriteBatch::default();
    puts.iter().for_each(|(name, value)| batch.put(key(name), value));
    deletes.iter().for_each(|name| batch.delete(key(name)));
    batch
}

fn documents(store: &mut FileStore) -> Documents {
    store.load().expect("loads").documents
}

/// A disk of which everything is known: it remembers what was done to it, and fails when it is told to.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    log: Vec<Op>,
    /// So many steps succeed, then all fail with this error number.
    fault: Option<(usize, i32)>,
}

#[derive(Debug, Clone)]
enum Op {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
}

impl Disk {
    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { bytes, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while it is held")
    }

    fn fail_after(&self, steps: usize, error: i32) {
        self.state().fault = Some((steps, error));
    }

    fn mend(&self) {
        self.state().fault = None;
    }

    /// Opens the store on it. The file only has to be there.
    fn open(&self, folder: &Path) -> Result<FileStore, StoreError> {
        let path = folder.join("store.redb");
        std::fs::write(&path, b"on the disk of the test").expect("written");
        let disk = self.clone();
        FileStore::open_by(&path, Box::new(move |_| builder().create_with_backend(disk.clone())))
    }
}

impl State {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write(offset, data) => {
                let at = usize::try_from(*offset).expect("small");
                if self.bytes.len() < at + data.len() {
                    self.bytes.resize(at + data.len(), 0);
                }
                self.bytes[at..at + data.len()].copy_from_slice(data);
            }
            Op::Length(length) => self.bytes.resize(usize::try_from(*length).expect("small"), 0),
            Op::Sync => {}
        }
    }

    /// Does a step, or half of it and fails.
    fn step(&mut self, op: Op) -> io::Result<()> {
        if let Some((steps, error)) = &mut self.fault {
            if *steps == 0 {
                let error = io::Error::from_raw_os_error(*error);
                if let Op::Write(offset, data) = &op {
                    let torn = Op::Write(*offset, data[..data.len() / 2].to_vec());
                    self.apply(&torn);
                }
                return Err(error);
            }
            *steps -= 1;
        }
        self.apply(&op);
        self.log.push(op);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let at = usize::try_from(offset).expect("small");
        let bytes = at.checked_add(out.len()).and_then(|end| state.bytes.get(at..end));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().step(Op::Length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state().step(Op::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().step(Op::Write(offset, data.to_vec()))
    }
}

/// A store on a disk of the test, with what two batches left; and the state after them.
fn prepared(folder: &Path) -> (Disk, FileStore, Documents) {
    let path = folder.join("made.redb");
    drop(FileStore::open(&path).expect("makes"));
    let disk = Disk::of(std::fs::read(&path).expect("there"));
    let mut store = disk.open(folder).expect("opens");
    let long = "x".repeat(3_000);
    store.write(&batch(&[("a/one", "1"), ("a/two", &long), ("a/three", "3")], &[])).expect("writes");
    store.write(&batch(&[("a/one", "2")], &["a/three"])).expect("writes");
    let before = documents(&mut store);
    (disk, store, before)
}

/// The last transaction of the tests: it changes, adds and deletes.
fn last() -> WriteBatch {
    let long = "y".repeat(9_000);
    batch(&[("a/one", "3"), ("a/four", &long), ("a/five", "5")], &["a/two"])
}

fn after(before: &Documents) -> Documents {
    let mut after = before.clone();
    for (key, value) in last().documents {
        match value {
            Some(value) => drop(after.insert(key, value)),
            None => drop(after.remove(&key)),
        }
    }
    after
}

#[test]
fn a_disk_that_fails_at_any_step_changes_nothing_and_needs_no_restart() {
    const ENOSPC: i32 = 28;
    let folder = tempfile::tempdir().expect("a folder");
    let mut failed = 0;
    for step in 0.. {
        let (disk, mut store, before) = prepared(folder.path());
        disk.fail_after(step, ENOSPC);
        let Err(error) = store.write(&last()) else {
            disk.mend();
            assert!(documents(&mut store) == after(&before));
            break;
        };
        failed += 1;
        let text = error.to_string();
        assert!(text.contains("no space is left") && text.contains("nothing was changed"), "{text}");
        assert!(error.next().contains("free some space"), "{}", error.next());
        // It is still full: also that is said, by whatever fails first.
        let again = store.write(&last()).expect_err("still full").to_string();
        assert!(again.contains("no space is left"), "step {step}: {again}");
        // Had the process died here, the change would be there whole or not at all.
        let crashed = Disk::of(disk.state().bytes.clone());
        let found = documents(&mut crashed.open(folder.path()).expect("opens"));
        assert!(found == before || found == after(&before), "step {step}: a third state");
        // Space is free again. What was refused is not there, and what is written then is.
        disk.mend();
        store.write(&batch(&[("b/other", "1")], &[])).expect("writes again");
        let mut expected = before.clone();
        expected.insert(key("b/other"), b"\"1\"".to_vec());
        assert!(documents(&mut store) == expected, "step {step}: what was refused is there, or more is gone");
        store.write(&last()).expect("writes");
        let mut reopened = Disk::of(disk.state().bytes.clone()).open(folder.path()).expect("opens");
        assert!(documents(&mut reopened) == after(&expected), "step {step}: what was written is not there");
    }
    assert!(failed >= 3, "only {failed} steps failed");
}

#[test]
fn a_backup_does_not_have_what_a_failed_write_may_have_left() {
    const EIO: i32 = 5;
    let folder = tempfile::tempdir().expect("a folder");
    for step in 0.. {
        let (disk, mut store, before) = prepared(folder.path());
        disk.fail_after(step, EIO);
        let failed = store.write(&last()).is_err();
        disk.mend();
        let bytes = store.backup().expect("is taken").bytes().expect("is made");
        let path = folder.path().join("restored.redb");
        std::fs::write(&path, bytes).expect("written");
        let restored = documents(&mut FileStore::open(&path).expect("opens"));
        assert!(restored == if failed { before } else { after(&before) }, "step {step}: another state");
        if !failed {
            break;
        }
    }
}

/// What is there after a crash: all steps up to one of them, and of that one, when it writes, the first bytes.
///
/// redb writes whole pages, and verifies a page by a checksum over it: where in the middle of a page it is cut makes
/// no difference to it. So the first page, which has the head of the file, is cut at each byte, and other pages at
/// each 512th, which is the least that disks write, and beside it.
#[test]
fn a_store_cut_anywhere_in_its_last_transaction_has_it_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, mut store, before) = prepared(folder.path());
    let base = {
        let mut state = disk.state();
        state.log.clear();
        state.bytes.clone()
    };
    store.write(&last()).expect("writes");
    let log = disk.state().log.clone();
    let after = after(&before);
    let (mut old, mut new) = (0, 0);
    let mut image = State { bytes: base.clone(), ..State::default() };
    for op in &log {
        let cuts: Vec<usize> = match op {
            Op::Write(0, data) => (0..data.len()).collect(),
            Op::Write(_, data) => (0..data.len()).filter(|at| at % 512 < 2 || at % 512 == 511).collect(),
            Op::Length(_) | Op::Sync => vec![0],
        };
        for cut in cuts {
            let mut torn = State { bytes: image.bytes.clone(), ..State::default() };
            if let Op::Write(offset, data) = op {
                torn.apply(&Op::Write(*offset, data[..cut].to_vec()));
            }
            let mut store = Disk::of(torn.bytes).open(folder.path()).expect("opens after a crash");
            let found = documents(&mut store);
            old += usize::from(found == before);
            new += usize::from(found == after);
            assert!(found == before || found == after, "a third state");
        }
        image.apply(op);
    }
    assert!(old > 0, "never the old state");
    let whole = documents(&mut Disk::of(image.bytes).open(folder.path()).expect("opens"));
    assert!(whole == after, "the last transaction is not there");
    println!("{} steps: {old} times the state before, {new} times the state after", log.len());

    // Between two syncs a disk may write in any order, and any part.
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let syncs = log.iter().filter(|op| matches!(op, Op::Sync)).count();
        let died_in = random.usize(..=syncs);
        let mut image = State { bytes: base.clone(), ..State::default() };
        let mut synced = 0;
        for op in &log {
            let kept = synced < died_in || (synced == died_in && random.bool());
            match op {
                Op::Sync => synced += 1,
                // A file that was not made longer cannot have been written beyond its end.
                Op::Length(_) if synced <= died_in => image.apply(op),
                Op::Write(offset, data) if kept => {
                    let whole = synced < died_in || random.bool();
                    let until = if whole { data.len() } else { random.usize(..=data.len() / 512) * 512 };
                    image.apply(&Op::Write(*offset, data[..until].to_vec()));
                }
                Op::Length(_) | Op::Write(..) => {}
            }
        }
        let found = documents(&mut Disk::of(image.bytes).open(folder.path()).expect("opens after a crash"));
        assert!(found == before || found == after, "a third state");
    }
}

#[test]
fn a_store_that_is_cut_short_or_altered_gives_what_was_stored_or_a_clear_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, mut store, before) = prepared(folder.path());
    store.write(&last()).expect("writes");
    drop(store);
    let after = after(&before);
    let whole = disk.state().bytes.clone();
    let check = |bytes: Vec<u8>, what: String| match Disk::of(bytes)
        .open(folder.path())
        .and_then(|mut store| store.load())
    {
        Ok(loaded) => {
            assert!(loaded.documents == before || loaded.documents == after, "{what}: a third state");
            true
        }
        Err(StoreError::Damaged { .. } | StoreError::Read { .. }) => false,
        Err(error) => panic!("{what}: {error}"),
    };
    let lengths = (1..512).chain((512..whole.len()).filter(|at| at % 512 < 2));
    let opened =
        lengths.filter(|length| check(whole[..*length].to_vec(), format!("cut at {length}"))).count();
    assert_eq!(opened, 0, "a store of which a part is missing was taken for whole");
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..1_000 {
        let mut bytes = whole.clone();
        let at = random.usize(..bytes.len());
        bytes[at] ^= 1 << random.u8(..8);
        check(bytes, format!("a bit changed at {at}"));
    }
    assert!(check(whole, "whole".to_owned()));
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let mut store = FileStore::open(&path).expect("opens");
    store.write(&batch(&[("shop/cart", "1"), ("shop/orders", "2")], &[])).expect("writes");
    store.write(&batch(&[], &["shop/orders"])).expect("writes");
    drop(store);
    let documents = documents(&mut FileStore::open(&path).expect("opens"));
    assert_eq!(documents, BTreeMap::from([(key("shop/cart"), b"\"1\"".to_vec())]));
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).expect("there").map(|e| e.expect("there").file_name()).collect();
    assert_eq!(names, ["store.redb"]);
}

#[test]
fn an_empty_file_is_not_taken_for_a_new_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    std::fs::write(&path, b"").expect("writes");
    let error = FileStore::open(&path).expect_err("damaged").to_string();
    assert!(error.contains("it is empty") && error.contains("Restore it from a backup"), "{error}");
    // A redb file that no meshfed has made.
    std::fs::remove_file(&path).expect("removed");
    drop(Database::create(&path).expect("made"));
    let error = FileStore::open(&path).expect_err("damaged").to_string();
    assert!(error.contains("does not say its format"), "{error}");
}

#[test]
fn a_store_that_is_gone_while_it_is_in_use_is_not_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, mut store, _) = prepared(folder.path());
    disk.fail_after(0, 5);
    store.write(&last()).expect_err("fails");
    disk.mend();
    std::fs::remove_file(folder.path().join("store.redb")).expect("removed");
    let error = store.write(&last()).expect_err("it is gone").to_string();
    assert!(error.contains("is not there"), "{error}");
    assert!(!folder.path().join("store.redb").exists());
}

#[test]
fn stores_of_other_formats_are_told_apart_and_nothing_is_added_to_them() {
    for (format, says) in [(FORMAT + 1, "Run that newer meshfed"), (0, "no released meshfed has written")] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.redb");
        let database = Database::create(&path).expect("made");
        let transaction = database.begin_write().expect("begins");
        transaction.open_table(ABOUT).expect("opens").insert("format", format).expect("written");
        transaction.commit().expect("written");
        drop(database);
        let error = FileStore::open(&path).expect_err("another format").to_string();
        assert!(error.contains(&format!("format {format}")) && error.contains(says), "{error}");
        let database = Database::open(&path).expect("opens");
        let tables = database.begin_read().expect("begins").list_tables().expect("listed").count();
        assert_eq!(tables, 1, "the refusal made tables");
    }
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    std::fs::write(&path, b"something else entirely").expect("writes");
    let error = FileStore::open(&path).expect_err("no store").to_string();
    assert!(error.contains("move it away"), "{error}");
    assert_eq!(std::fs::read(&path).expect("there"), b"something else entirely");
}

#[test]
fn of_many_that_make_one_store_at_once_one_has_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let opened: Vec<_> = std::thread::scope(|scope| {
        let open = || scope.spawn(|| FileStore::open(&path));
        let threads: Vec<_> = (0..8).map(|_| open()).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let (mut held, refused): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
    assert_eq!(held.len(), 1, "{refused:?}");
    assert!(refused.iter().all(|refused| matches!(refused, Err(StoreError::Locked { .. }))), "{refused:?}");
    let mut held = held.remove(0).expect("one has it");
    held.write(&batch(&[("a/one", "1")], &[])).expect("writes");
    drop(held);
    assert_eq!(
        documents(&mut FileStore::open(&path).expect("opens")).len(),
        1,
        "another file took its place"
    );
}

#[test]
fn a_backup_is_of_one_moment_however_much_is_written_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = FileStore::open(&folder.path().join("store.redb")).expect("opens");
    let both = |at: u64| {
        let mut batch = WriteBatch::default();
        batch.put(key("a/one"), &at);
        batch.put(key("a/two"), &at);
        batch.put(key(&format!("b/{at}")), &"x".repeat(500));
        batch
    };
    store.write(&both(0)).expect("writes");
    for at in 1..20 {
        let backup = store.backup().expect("is taken");
        (0..10).for_each(|more| store.write(&both(at * 100 + more)).expect("writes"));
        let path = folder.path().join("restored.redb");
        std::fs::write(&path, backup.bytes().expect("is made")).expect("written");
        let restored = documents(&mut FileStore::open(&path).expect("opens"));
        assert_eq!(restored[&key("a/one")], restored[&key("a/two")]);
        let expected = if at == 1 { 0 } else { (at - 1) * 100 + 9 };
        assert_eq!(restored[&key("a/one")], expected.to_string().into_bytes());
        assert_eq!(restored.len() as u64, 3 + (at - 1) * 10);
    }
}
