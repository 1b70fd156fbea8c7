//! `drover backup` and `drover restore`: one state, whole or not at all, and no revision twice.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use drover::data_dir::{DataDir, Refused};
use serde_json::{Value, json};

use crate::{
    sides::{Embedded, Side, drover, scenario},
    support::{
        Scratch,
        drover::{Drover, program},
        eventually, free_port,
        gguf::TinyLlama,
        process::Process,
    },
};

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().expect("a revision").parse().expect("a number")
}

fn config(name: &str) -> Value {
    json!({ "metadata": { "name": name } })
}

/// Runs a command on a folder; what it printed.
async fn run(command: &str, file: &Path, folder: &Path, more: &[&str]) -> Result<String, String> {
    let (file, folder) = (file.display().to_string(), folder.display().to_string());
    let arguments: Vec<_> = [command, &file, "--data-dir", &folder].into_iter().chain(more.iter().copied()).collect();
    let (success, printed, why) = drover(&arguments, Path::new("/dev/null")).await;
    if success { Ok(printed) } else { Err(why) }
}

/// Makes a folder in which an instance wrote these objects, and which none has any more.
async fn state_with(folder: &Path, names: &[&str]) {
    let embedded = Embedded::start(folder).await;
    let side = Side::embedded(&embedded).await;
    for name in names {
        assert_eq!(side.ask("POST", CONFIGMAPS, &config(name)).await.code, 201);
    }
}

async fn names(side: &Side) -> Vec<String> {
    let list = side.ask("GET", CONFIGMAPS, &Value::Null).await.body;
    let items = list["items"].as_array().expect("a list").iter();
    items.map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
}

/// Every file of a folder, but for those that come and go.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name != "lock" && !name.ends_with("-shm") {
            files.insert(name, fs::read(&path).expect("a file"));
        }
    }
    files
}

#[test]
fn a_backup_under_writes_is_one_moment_and_comes_back() {
    const WRITERS: usize = 4;
    scenario(|| async {
        let scratch = Scratch::new();
        let (folder, file) = (scratch.join("state"), scratch.join("backup.tar"));
        let held = DataDir::new(&folder).lock().expect("it is free");
        let embedded = Embedded::start(&folder).await;
        let side = Side::embedded(&embedded).await;
        let (done, made) = (AtomicBool::new(false), AtomicUsize::new(0));
        let writer = async |writer: usize| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                let answer = side.ask("POST", CONFIGMAPS, &config(&format!("w{writer}-{count:05}"))).await;
                assert_eq!(answer.code, 201, "{}", answer.body);
                count += 1;
                made.fetch_add(1, Ordering::Relaxed);
            }
            count
        };
        let more_writes = async || {
            let goal = made.load(Ordering::Relaxed) + 10 * WRITERS;
            eventually("the writers go on", Duration::from_secs(30), async || {
                let now = made.load(Ordering::Relaxed);
                if now >= goal { Ok(()) } else { Err(format!("{now} of {goal} writes")) }
            })
            .await;
        };
        let backup = async {
            more_writes().await;
            let printed = run("backup", &file, &folder, &[]).await.expect("a backup");
            more_writes().await;
            done.store(true, Ordering::Relaxed);
            printed
        };
        let (written, printed) = tokio::join!(futures::future::join_all((0..WRITERS).map(writer)), backup);
        assert!(printed.contains("backup.tar: 2 files"), "{printed}");
        assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        assert!(!scratch.join("backup.tar.partial").exists());

        let list = side.ask("GET", CONFIGMAPS, &Value::Null).await.body;
        let (last, token) = (revision(&list), fs::read(folder.join("identity.json")).expect("an identity"));
        drop((embedded, held));
        let other = scratch.join("other");
        let printed = run("restore", &file, &other, &[]).await.expect("it is restored");
        assert!(printed.contains("is what it was at "), "{printed}");
        assert_eq!(fs::read(other.join("identity.json")).expect("an identity"), token);
        let restored = Embedded::start(&other).await;
        let side = Side::embedded(&restored).await;
        let there = names(&side).await;
        for (writer, written) in written.iter().enumerate() {
            let mine: Vec<_> = there.iter().filter(|name| name.starts_with(&format!("w{writer}-"))).collect();
            let expected: Vec<_> = (0..mine.len()).map(|number| format!("w{writer}-{number:05}")).collect();
            assert_eq!(mine, expected.iter().collect::<Vec<_>>());
            assert!((1..=*written).contains(&mine.len()), "{} of {written}", mine.len());
        }

        // Clients know revisions that came after the backup.
        let list = side.ask("GET", CONFIGMAPS, &Value::Null).await.body;
        assert!(list["items"].as_array().expect("a list").iter().all(|item| revision(item) > last));
        for known in [1, last, revision(&list) - 1] {
            let events = side.watch(&format!("{CONFIGMAPS}?watch=true&resourceVersion={known}"), 1).await;
            assert_eq!(events[0]["object"]["code"], 410, "{known}: {events:?}");
        }
        let stale = json!({ "metadata": { "name": there[0], "resourceVersion": last.to_string() } });
        assert_eq!(side.ask("PUT", &format!("{CONFIGMAPS}/{}", there[0]), &stale).await.code, 409);
        assert!(revision(&side.ask("POST", CONFIGMAPS, &config("later")).await.body) > revision(&list));

        // Once more, elsewhere: revisions that clients of the first one know don't come again.
        let end = revision(&side.ask("GET", CONFIGMAPS, &Value::Null).await.body);
        run("restore", &file, &scratch.join("third"), &[]).await.expect("it is restored");
        let third = Embedded::start(&scratch.join("third")).await;
        let list = Side::embedded(&third).await.ask("GET", CONFIGMAPS, &Value::Null).await.body;
        assert!(list["items"].as_array().expect("a list").iter().all(|item| revision(item) > end));
    });
}

#[test]
fn a_folder_that_is_in_use_or_full_is_left_alone() {
    scenario(|| async {
        let scratch = Scratch::new();
        let (first, second, file) = (scratch.join("first"), scratch.join("second"), scratch.join("backup.tar"));
        state_with(&first, &["a"]).await;
        state_with(&second, &["b"]).await;
        run("backup", &file, &first, &[]).await.expect("a backup");
        let before = content(&second);
        let why = run("restore", &file, &second, &[]).await.expect_err("it has a state");
        assert!(why.contains("has a state already: name another folder with --data-dir, or replace it with --force"));
        let lock = DataDir::new(&second).lock().expect("it is free");
        assert!(matches!(DataDir::new(&second).lock(), Err(Refused::Held(_, Some(pid))) if pid == std::process::id()));
        let why = run("restore", &file, &second, &["--force"]).await.expect_err("it is in use");
        assert!(why.contains(&format!("is in use by process {}: stop it first", std::process::id())), "{why}");
        assert_eq!(content(&second), before);
        drop(lock);
        let last = fs::read(second.join("identity.json")).expect("an identity");
        run("restore", &file, &second, &["--force"]).await.expect("it is restored");
        assert_ne!(fs::read(second.join("identity.json")).expect("an identity"), last);
        let embedded = Embedded::start(&second).await;
        assert_eq!(names(&Side::embedded(&embedded).await).await, ["a"]);

        let why = run("backup", &file, &scratch.join("nothing"), &[]).await.expect_err("there is nothing");
        assert!(why.contains("nothing is kept there; name the folder of the instance with --data-dir"), "{why}");
        assert!(!scratch.join("nothing").exists());
        let why = run("restore", &scratch.join("nothing.tar"), &second, &["--force"]).await.expect_err("no file");
        assert!(why.contains("nothing.tar: No such file"), "{why}");
    });
}

#[test]
fn an_archive_that_is_damaged_changes_nothing() {
    scenario(|| async {
        let scratch = Scratch::new();
        let (folder, file, bad) = (scratch.join("state"), scratch.join("backup.tar"), scratch.join("bad.tar"));
        state_with(&folder, &["a", "b"]).await;
        run("backup", &file, &folder, &[]).await.expect("a backup");
        let sound = fs::read(&file).expect("the archive");
        let before = content(&folder);
        let half = sound.len() / 2;
        let spoilt = |at: usize| {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x55;
            bytes
        };
        let mut foreign = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.as_old_mut().name[..14].copy_from_slice(b"../outside.txt");
        header.set_cksum();
        foreign.append(&header, &b"x"[..]).expect("a member");
        let foreign = foreign.into_inner().expect("an archive");
        let cases = [
            (Vec::new(), "it was cut off"),
            (sound[..half].to_vec(), ""),
            (sound[..512 + 4096 * 3].to_vec(), ""),
            (spoilt(512 + 100), "state.db in it is damaged"),
            (spoilt(half), "in it is damaged"),
            (foreign, "belongs nowhere"),
            (b"no archive at all".to_vec(), ""),
        ];
        for (number, (bytes, words)) in cases.into_iter().enumerate() {
            fs::write(&bad, bytes).expect("it is written");
            let why = run("restore", &bad, &folder, &["--force"]).await.expect_err("it is damaged");
            assert!(why.contains("bad.tar can't be restored: ") && why.contains(words), "{number}: {why}");
            assert_eq!(content(&folder), before, "{number}");
        }
        assert!(!scratch.join("outside.txt").exists());
    });
}

#[test]
fn a_killed_restore_has_done_all_or_nothing() {
    const ROUNDS: u64 = 20;
    scenario(|| async {
        let scratch = Scratch::new();
        let files = [scratch.join("old.tar"), scratch.join("new.tar")];
        let mut identities = Vec::new();
        for (file, name) in files.iter().zip(["old", "new"]) {
            let folder = scratch.join(name);
            state_with(&folder, &[name]).await;
            run("backup", file, &folder, &[]).await.expect("a backup");
            identities.push(fs::read_to_string(folder.join("identity.json")).expect("an identity"));
        }
        let folder = scratch.join("state");
        run("restore", &files[0], &folder, &[]).await.expect("it is restored");
        let start = std::time::Instant::now();
        run("restore", &files[0], &folder, &["--force"]).await.expect("it is restored");
        let whole = start.elapsed();
        let mut outcomes = BTreeMap::new();
        for round in 0..ROUNDS {
            let mut command = Command::new(program());
            command.arg("restore").arg(&files[1]).arg("--force").arg("--data-dir").arg(&folder);
            let mut process = Process::spawn(&format!("restore-{round}"), command, scratch.path());
            tokio::time::sleep(whole.mul_f64(rand::random_range(0.4..1.6))).await;
            process.kill9();
            drop(DataDir::new(&folder).lock().expect("the killed one has it no more"));
            let identity = fs::read_to_string(folder.join("identity.json")).expect("an identity");
            let which = identities.iter().position(|known| *known == identity).expect("one of the two");
            let embedded = Embedded::start(&folder).await;
            assert_eq!(names(&Side::embedded(&embedded).await).await, [["old", "new"][which]]);
            drop(embedded);
            // Names only: the database that was closed just now may still be taking its other files away.
            let present = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
            let left: Vec<_> = present.filter(|name| name.to_string_lossy().contains("restore")).collect();
            assert!(left.is_empty(), "{left:?}");
            *outcomes.entry(which).or_insert(0) += 1;
            run("restore", &files[0], &folder, &["--force"]).await.expect("it is restored");
        }
        println!("{outcomes:?}");
    });
}

#[test]
fn what_a_killed_restore_left_is_finished_or_dropped_by_whoever_comes_next() {
    scenario(|| async {
        let scratch = Scratch::new();
        let (old, new) = (scratch.join("old"), scratch.join("new"));
        state_with(&old, &["old"]).await;
        state_with(&new, &["new"]).await;
        let file = scratch.join("new.tar");
        run("backup", &file, &new, &[]).await.expect("a backup");
        run("restore", &file, &scratch.join("whole"), &[]).await.expect("it is restored");
        let staged = |name: &str| {
            let folder = old.join(name);
            fs::create_dir(&folder).expect("a folder");
            for name in ["state.db", "identity.json"] {
                fs::copy(scratch.join("whole").join(name), folder.join(name)).expect("a copy");
            }
            folder
        };
        let before = fs::read(old.join("identity.json")).expect("an identity");
        staged("restore.partial");
        drop(DataDir::new(&old).lock().expect("it is free"));
        assert_eq!(fs::read(old.join("identity.json")).expect("an identity"), before);
        assert!(!old.join("restore.partial").exists());

        // Killed after it counted, with one of the two files in its place and what SQLite kept beside the other.
        let folder = staged("restore");
        fs::rename(folder.join("identity.json"), old.join("identity.json")).expect("it is moved");
        fs::write(old.join("state.db-wal"), "of the state that goes").expect("it is written");
        run("backup", &scratch.join("again.tar"), &old, &[]).await.expect("a backup");
        assert!(!old.join("restore").exists() && !old.join("state.db-wal").exists());
        let embedded = Embedded::start(&old).await;
        assert_eq!(names(&Side::embedded(&embedded).await).await, ["new"]);
    });
}

#[test]
fn models_that_only_the_mirror_has_are_not_lost_silently() {
    scenario(|| async {
        let scratch = Scratch::new();
        let folder = scratch.join("state");
        state_with(&folder, &[]).await;
        let model = scratch.join("model.gguf");
        TinyLlama::new(5).write(&model).expect("a model");
        let mirror = mirror(&folder, &scratch).await;
        let url = mirror.1.clone();
        let (pushed, _, why) =
            drover(&["push", &model.display().to_string(), "team/own:1", "--mirror", &url], Path::new("/dev/null"))
                .await;
        assert!(pushed, "{why}");

        let (plain, whole) = (scratch.join("plain.tar"), scratch.join("whole.tar"));
        let printed = run("backup", &plain, &folder, &[]).await.expect("a backup");
        assert!(printed.contains("the bytes of models that only the mirror has: "), "{printed}");
        assert!(printed.contains("team/own:1 (") && printed.contains("--blobs own takes them along"), "{printed}");
        let printed = run("backup", &whole, &folder, &["--blobs", "own"]).await.expect("a backup");
        assert!(!printed.contains("Not in the backup"), "{printed}");
        drop(mirror);

        // Where the bytes still are, the model is whole again.
        run("restore", &plain, &folder, &["--force"]).await.expect("it is restored");
        let other = scratch.join("other");
        run("restore", &whole, &other, &[]).await.expect("it is restored");
        for folder in [&folder, &other] {
            let mirror = self::mirror(folder, &scratch).await;
            let (sound, printed, why) =
                drover(&["mirror", "verify", "--mirror", &mirror.1], Path::new("/dev/null")).await;
            assert!(sound, "{printed}{why}");
            let listed = drover(&["mirror", "ls", "-o", "name", "--mirror", &mirror.1], Path::new("/dev/null")).await;
            assert!(listed.1.contains("team/own:1"), "{listed:?}");
        }
        let printed = run("restore", &plain, &scratch.join("bare"), &[]).await.expect("it is restored");
        assert!(printed.contains("team/own:1") && printed.contains("push those again"), "{printed}");
    });
}

/// A mirror in the folder of an instance, and its URL.
async fn mirror(folder: &Path, scratch: &Scratch) -> (Drover, String) {
    let (port, health) = (free_port(), free_port());
    let data = folder.join("mirror").display().to_string();
    let (listen, health_listen) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{health}"));
    let arguments = ["mirror", "--mirror-listen", &listen, "--data-dir", &data, "--health-listen", &health_listen];
    let arguments = arguments.map(str::to_owned).to_vec();
    let process = Drover::with_arguments("mirror", arguments, health, Path::new("/dev/null"), scratch.path()).await;
    (process, format!("http://{listen}"))
}
