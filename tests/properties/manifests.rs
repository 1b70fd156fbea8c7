//! Folders of manifests: what their texts mean, and when they are read.

use std::{fs, time::Duration};

use drover::manifests::{LOOK_EVERY, Look, Settling, look, parse, read};
use proptest::{collection::vec, prelude::*};
use serde_json::json;
use tokio::time::Instant;

#[test]
fn documents_are_told_apart_wherever_the_dashes_stand() {
    let one = "a: 1\n";
    for (text, count) in [
        ("", 0),
        ("---\n", 0),
        ("# nothing\n---\n# nothing\n", 0),
        (one, 1),
        ("---\na: 1\n", 1),
        ("--- # first\na: 1\n--- {a: 2}\n---\n---\na: 3", 3),
        ("%YAML 1.2\n---\na: 1\n", 1),
        ("a: |\n  ---\n  b\n", 1),
        ("a: 1\r\n---\r\na: 2\r\n", 2),
        ("kind: List\nitems: [{a: 1}, {a: 2}]\n", 2),
        ("x: &x {b: 1}\na: {<<: *x, c: 2}\n", 1),
    ] {
        let (documents, faults) = parse("f.yaml", text);
        assert_eq!((documents.len(), faults), (count, Vec::new()), "{text:?}");
    }
    let (documents, _) = parse("f.yaml", "x: &x {b: 1}\na: {<<: *x, c: 2}\n");
    assert_eq!(documents[0].body["a"], json!({"b": 1, "c": 2}));
    assert_eq!(parse("f.json", "{\"a\": 1}\n{\"a\": 2}").0.len(), 2);
}

#[test]
fn a_fault_is_named_with_file_document_and_line() {
    let (documents, faults) = parse("dir/f.yaml", "a: 1\n---\nb: 1\nb: [\n---\nc: 1\n---\n- 1\n---\nd: 1\nd: 2\n");
    assert_eq!(documents.len(), 2);
    let said: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("dir/f.yaml, document 2: line "), "{said:?}");
    assert!(said[1].starts_with("dir/f.yaml, document 4: it is not an object"), "{said:?}");
    assert!(said[2].contains("document 5") && said[2].contains("duplicate"), "{said:?}");
    let (documents, faults) = parse("f.json", "{\"a\": 1} {\"a\": ");
    assert_eq!((documents.len(), faults.len()), (1, 1));
}

#[test]
fn only_manifests_are_read_and_what_cannot_be_read_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    fs::create_dir_all(path.join(".git")).expect("a folder");
    for file in ["a.yaml", "b.yml", "c.json", "README.md", ".hidden.yaml", ".git/d.yaml", "e.yaml~"] {
        fs::write(path.join(file), "{\"a\": 1}").expect("written");
    }
    std::os::unix::fs::symlink("nowhere", path.join("link")).expect("a link");
    let contents = read(path, &look(path).expect("a folder"));
    let files: Vec<&str> = contents.documents.iter().map(|document| document.place.file.as_str()).collect();
    assert_eq!(files, ["a.yaml", "b.yml", "c.json"]);
    assert_eq!(contents.faults.len(), 1, "{:?}", contents.faults);
    assert_eq!(contents.faults[0].place.file, "link");
    let file = path.join("a.yaml");
    assert_eq!(read(&file, &look(&file).expect("a file")).documents.len(), 1);
    assert!(look(&path.join("nowhere")).is_err());
}

/// Different looks of a folder.
fn looks() -> Vec<Look> {
    let folder = tempfile::tempdir().expect("a folder");
    let next = |number: u32| {
        fs::write(folder.path().join(format!("{number}.yaml")), "").expect("written");
        look(folder.path()).expect("a folder")
    };
    (0..3).map(next).collect()
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "([-a:{}\\[\\]&*<# \n]|---\n){0,40}") {
        drop(parse("f.yaml", &text));
        drop(parse("f.json", &text));
    }

    #[test]
    fn a_folder_is_read_once_it_is_quiet_and_again_after_a_while(seen in vec(0..3usize, 1..60), well in any::<bool>()) {
        let looks = looks();
        let (mut settling, mut now) = (Settling::default(), Instant::now());
        let (mut before, mut done): (Option<usize>, Option<(usize, Instant)>) = (None, None);
        for index in seen {
            // Some looks are far apart.
            now += if index == 2 { Duration::from_secs(7) } else { LOOK_EVERY };
            let is_due = settling.is_due(&looks[index], now);
            let after = Duration::from_secs(if well { 60 } else { 10 });
            let is_old = done.is_none_or(|(which, at)| which != index || now - at >= after);
            prop_assert_eq!(is_due, before == Some(index) && is_old);
            if is_due {
                let is_news = settling.done(looks[index].clone(), now, well);
                prop_assert_eq!(is_news, done.is_none_or(|(which, _)| which != index));
                done = Some((index, now));
            }
            before = Some(index);
        }
        settling.lost();
        prop_assert!(!settling.is_due(&looks[0], now), "it may be half of it after it was away");
    }
}
