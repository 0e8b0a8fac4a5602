//! The store and the deaths of its processes: killed at any moment, two at a time, and on a disk that is full.
//!
//! Tests that need another process start this program again, in a folder whose file `part` says what it is to do there.

use federation_server::store::documents::{DocumentKey, DocumentKind};
use federation_server::store::{FileStore, Store, StoreError, WriteBatch};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn key(name: &str) -> DocumentKey {
    DocumentKey::new(DocumentKind::Resource, name)
}

/// What the process that runs this is to do; none: it is the test.
fn part() -> Option<String> {
    std::fs::read_to_string("part").ok()
}

/// A command that runs one test of this program, as another part.
fn again(test: &str, part: &str, folder: &Path) -> Command {
    std::fs::write(folder.join("part"), part).expect("written");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]).current_dir(folder).stderr(Stdio::null());
    command
}

/// Says something to the test.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "> {line}").and_then(|()| out.flush()).expect("the test listens");
}

fn end(mut child: Child) -> String {
    child.kill().expect("it is ours");
    let mut said = String::new();
    // What it said before it died is in the pipe.
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    child.wait().expect("ends");
    said
}

/// The batch of one number: two documents that say it, and one of its own.
fn numbered(at: u64) -> WriteBatch {
    let mut batch = WriteBatch::default();
    batch.put(key("a/one"), &at);
    batch.put(key("a/two"), &at);
    batch.put(key(&format!("b/{}", at % 50)), &format!("{at} {}", "x".repeat((at % 7) as usize * 400)));
    if at.is_multiple_of(3) {
        batch.delete(key(&format!("b/{}", (at + 25) % 50)));
    }
    batch
}

/// The number of the last batch that the store has; it panics when it has one in part.
fn number(store: &mut FileStore) -> u64 {
    let documents = store.load().expect("loads").documents;
    let of = |name: &str| -> u64 {
        documents.get(&key(name)).map_or(0, |value| serde_json::from_slice(value).expect("a number"))
    };
    let number = of("a/one");
    assert_eq!(number, of("a/two"), "half a batch");
    let mut expected = std::collections::BTreeMap::new();
    for at in 1..=number {
        for (key, value) in numbered(at).documents {
            match value {
                Some(value) => drop(expected.insert(key, value)),
                None => drop(expected.remove(&key)),
            }
        }
    }
    assert!(documents == expected, "not the state after batch {number}");
    number
}

#[test]
fn a_writer_killed_200_times_loses_nothing_that_it_acknowledged_and_leaves_no_half_batch() {
    const TEST: &str =
        "a_writer_killed_200_times_loses_nothing_that_it_acknowledged_and_leaves_no_half_batch";
    const ROUNDS: usize = 200;
    if part().as_deref() == Some("write") {
        let mut store = FileStore::open(Path::new("store.redb")).expect("opens");
        let documents = store.load().expect("loads").documents;
        let last =
            documents.get(&key("a/one")).map_or(0, |value| serde_json::from_slice(value).expect("a number"));
        for at in last + 1.. {
            store.write(&numbered(at)).expect("writes");
            say(&at.to_string());
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (path, copy) = (folder.path().join("store.redb"), folder.path().join("copy.redb"));
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut acknowledged, mut unacknowledged, mut early) = (0, 0, 0);
    for round in 0..ROUNDS {
        let writer = again(TEST, "write", folder.path()).stdout(Stdio::piped()).spawn().expect("starts");
        // From before it has opened the store until well within its writes.
        std::thread::sleep(Duration::from_micros(random.u64(..90_000)));
        let said = end(writer);
        let last = said.lines().filter_map(|line| line.strip_prefix("> ")?.parse().ok()).next_back();
        early += usize::from(last.is_none());
        acknowledged = last.unwrap_or(acknowledged);
        if !path.exists() {
            assert_eq!(acknowledged, 0, "round {round}: the store is gone");
            continue;
        }
        // The next writer finds the store as it was left; what is looked at is a copy.
        std::fs::copy(&path, &copy).expect("copied");
        let found = number(&mut FileStore::open(&copy).expect("opens"));
        assert!(
            found == acknowledged || found == acknowledged + 1,
            "seed {seed}, round {round}: batch {acknowledged} was acknowledged, the store has {found}"
        );
        unacknowledged += usize::from(found > acknowledged);
        acknowledged = found;
    }
    println!(
        "{ROUNDS} rounds: {acknowledged} batches; {early} killed before their first, {unacknowledged} between the disk \
         and the word"
    );
    assert!(acknowledged > 0, "nothing was ever written");
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .expect("there")
        .map(|entry| entry.expect("there").file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(".store.redb."))
        .collect();
    drop(FileStore::open(&path).expect("opens"));
    let after = left.iter().filter(|name| folder.path().join(name).exists()).count();
    assert_eq!(after, 0, "killed makers left files: {left:?}");
}

#[test]
fn a_second_process_is_told_who_has_the_store_and_has_it_when_that_one_is_dead() {
    const TEST: &str = "a_second_process_is_told_who_has_the_store_and_has_it_when_that_one_is_dead";
    if part().as_deref() == Some("hold") {
        let mut store = FileStore::open(Path::new("store.redb")).expect("opens");
        store.write(&numbered(1)).expect("writes");
        say("held");
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let mut holder = again(TEST, "hold", folder.path()).stdout(Stdio::piped()).spawn().expect("starts");
    let mut said = BufReader::new(holder.stdout.take().expect("piped")).lines();
    said.find(|line| line.as_ref().is_ok_and(|line| line == "> held")).expect("holds").expect("text");
    let error = FileStore::open(&path).expect_err("held");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&format!("process {} (", holder.id())) && text.contains("stop that process"),
        "{text}"
    );
    holder.kill().expect("it is ours");
    holder.wait().expect("ends");
    assert_eq!(number(&mut FileStore::open(&path).expect("opens")), 1);
}

/// Runs in a mount namespace of its own, on a file system of 3 MiB in memory.
#[test]
fn a_full_disk_refuses_with_its_cause_loses_nothing_and_needs_no_restart() {
    const TEST: &str = "a_full_disk_refuses_with_its_cause_loses_nothing_and_needs_no_restart";
    if part().as_deref() == Some("full disk") {
        on_a_full_disk(Path::new("disk"));
        say("held");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("disk")).expect("made");
    let program = again(TEST, "full disk", folder.path());
    let mount =
        "mount -t tmpfs -o size=3m meshfed-test disk || { echo no mount; exit 0; }; exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", mount]).arg(program.get_program()).args(program.get_args());
    let ran = match command.current_dir(folder.path()).output() {
        Ok(ran) => ran,
        Err(error) => return println!("SKIPPED: {TEST}: `unshare` cannot be run: {error}"),
    };
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if out.contains("no mount") || err.starts_with("unshare:") {
        return println!("SKIPPED: {TEST}: no file system can be mounted (needs root): {err}");
    }
    assert!(ran.status.success() && out.contains("> held"), "{out}\n{err}");
}

fn on_a_full_disk(disk: &Path) {
    let path = disk.join("store.redb");
    let fill = |on: bool| {
        let (file, mut bytes) = (disk.join("others"), 1 << 20);
        if !on {
            return std::fs::remove_file(file).expect("removed");
        }
        let mut file = std::fs::File::create(file).expect("made");
        while bytes > 0 {
            if file.write_all(&vec![1; bytes]).is_err() {
                bytes /= 2;
            }
        }
    };
    let mut store = FileStore::open(&path).expect("opens");
    (1..=20).for_each(|at| store.write(&numbered(at)).expect("writes"));
    fill(true);
    let mut large = WriteBatch::default();
    (0..100).for_each(|at| large.put(key(&format!("c/{at}")), &"z".repeat(5_000)));
    for _ in 0..3 {
        let error = store.write(&large).expect_err("the disk is full");
        let text = error.to_string();
        assert!(
            text.contains("no space is left on its disk") && text.contains("nothing was changed"),
            "{text}"
        );
        assert!(error.next().contains("free some space"), "{}", error.next());
    }
    // It can be read, and a backup be taken, or it is said why not.
    match store.load() {
        Ok(_) => assert_eq!(number(&mut store), 20),
        Err(error) => assert!(error.to_string().contains("no space is left"), "{error}"),
    }
    // A process that starts now has what was stored, or says what it lacks.
    drop(store);
    match FileStore::open(&path) {
        Ok(mut store) => assert_eq!(number(&mut store), 20),
        Err(error) => {
            println!("does not open on a full disk: {error}");
            assert!(error.to_string().contains("no space is left"), "{error}");
        }
    }
    fill(false);
    let mut store = FileStore::open(&path).expect("opens");
    assert_eq!(number(&mut store), 20);
    // The same without a restart, and over and over.
    for at in 21..=30 {
        fill(true);
        store.write(&large).expect_err("the disk is full");
        fill(false);
        store.write(&numbered(at)).expect("it goes on by itself");
        assert_eq!(number(&mut store), at);
    }
    drop(store);
    assert_eq!(number(&mut FileStore::open(&path).expect("opens")), 30);
}
