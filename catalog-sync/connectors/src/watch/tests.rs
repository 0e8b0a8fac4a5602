use super::*;
use std::time::Instant;

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
}

/// Looks until something is seen.
fn wait(watched: &mut Watched) -> Look {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match watched.look() {
            Look::Same => assert!(Instant::now() < until, "nothing was seen"),
            look => return look,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn text(look: Look) -> Vec<String> {
    let Look::Read(texts) = look else { panic!("{look:?}") };
    texts.into_iter().map(|text| text.text).collect()
}

#[test]
fn a_file_is_read_at_first_sight_and_when_it_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.yaml");
    write(&path, "one");
    let mut watched = Watched::new(path.clone());
    assert_eq!(text(watched.look()), ["one"]);
    assert_eq!(watched.look(), Look::Same);
    write(&path, "three");
    assert_eq!(text(wait(&mut watched)), ["three"]);
    // Replaced as a whole, with a file of the same size.
    let other = folder.path().join("other");
    write(&other, "seven");
    std::fs::rename(&other, &path).expect("renamed");
    assert_eq!(text(wait(&mut watched)), ["seven"]);
}

#[test]
fn a_file_that_is_being_written_is_left_alone_until_it_is_still() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.yaml");
    write(&path, "one");
    let mut watched = Watched::new(path.clone());
    watched.look();
    for part in ["x", "xx", "xxx"] {
        write(&path, part);
        assert_eq!(watched.look(), Look::Same, "it looks otherwise at each look");
    }
    assert_eq!(text(wait(&mut watched)), ["xxx"]);
}

#[test]
fn a_file_that_is_gone_is_told_once_and_read_when_it_is_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.yaml");
    let mut watched = Watched::new(path.clone());
    let Look::Unreadable(problem) = watched.look() else { panic!("it is not there") };
    assert!(problem.to_string().contains("stays in force"), "{problem}");
    assert_eq!(watched.look(), Look::Same);
    write(&path, "one");
    assert_eq!(text(wait(&mut watched)), ["one"]);
    std::fs::remove_file(&path).expect("removed");
    assert!(matches!(wait(&mut watched), Look::Unreadable(_)));
    assert_eq!(watched.look(), Look::Same);
}

#[test]
fn a_folder_is_read_as_one() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in [("b.yaml", "b"), ("a.yml", "a"), (".c.yaml", "c"), ("d.txt", "d")] {
        write(&folder.path().join(name), content);
    }
    let mut watched = Watched::new(folder.path().to_owned());
    assert_eq!(text(watched.look()), ["a", "b"]);
    std::fs::remove_file(folder.path().join("b.yaml")).expect("removed");
    assert_eq!(text(wait(&mut watched)), ["a"]);
}

#[tokio::test]
async fn what_is_wrong_keeps_the_last_good_state_and_says_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.yaml");
    write(&path, "good");
    let (sender, mut states) = watch::channel(FileState::default());
    let stop = CancellationToken::new();
    let _stopped = stop.clone().drop_guard();
    let read = |texts: &[Text]| match texts[0].text.as_str() {
        "bad" => Err(Diagnostic::at(&texts[0].file, "bad", (1, 1), 0).message("it is bad")),
        other => Ok(other.to_owned()),
    };
    tokio::spawn(follow(path.clone(), read, sender, stop));
    let mut wait_for = async |good: &str, bad: bool| {
        let wanted =
            |state: &FileState<String>| state.good.as_deref() == Some(good) && state.problem.is_some() == bad;
        let state = tokio::time::timeout(Duration::from_secs(30), states.wait_for(wanted)).await;
        state.expect("in time").expect("it runs").problem.clone()
    };
    wait_for("good", false).await;
    write(&path, "bad");
    let problem = wait_for("good", true).await.expect("a problem").to_string();
    assert!(problem.contains("a.yaml:1:1: it is bad"), "{problem}");
    write(&path, "better");
    wait_for("better", false).await;
}
