//! `--manifests`: a folder is what is wanted.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::instance::Up;
use crate::support::Scratch;

fn pull(name: &str, model: &str) -> String {
    format!(
        "{{apiVersion: drover.dev/v1alpha1, kind: ModelPull, metadata: {{name: {name}}}, spec: {{model: '{model}'}}}}\n"
    )
}

fn write(folder: &Path, file: &str, text: &str) {
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join(file), text).expect("written");
}

async fn start(scratch: &Scratch) -> Up {
    let folder = scratch.join("manifests");
    Up::start(scratch.path(), &["--manifests", folder.to_str().expect("text")]).await
}

#[tokio::test]
async fn what_stands_there_is_applied_changed_and_deleted_also_over_a_restart() {
    let scratch = Scratch::new();
    let folder = scratch.join("manifests");
    let in_ml = pull("inside", "m:1").replace("name: inside", "name: inside, namespace: ml");
    // The namespace stands last, in a file that comes last.
    write(&folder.join("more"), "a.yml", &in_ml);
    write(&folder, "b.yaml", &format!("# two of them\n---\n{}---\n{}", pull("one", "m:1"), pull("two", "m:1")));
    write(&folder, "z.json", r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml"}}"#);
    let mut up = start(&scratch).await;
    up.eventually_has("modelpull/one", true).await;
    up.eventually_has("modelpull/two", true).await;
    assert_eq!(up.kubectl(&["get", "modelpull", "-n", "ml", "-o", "name"]).await, "modelpull.drover.dev/inside\n");

    // A person's own object, and one that was copied with its labels, are no business of the folder's.
    up.apply(&pull("own", "m:1")).await;
    up.apply(
        &pull("copied", "m:1").replace("name: copied", "name: copied, labels: {drover.dev/applied-by: manifests}"),
    )
    .await;
    write(&folder, "b.yaml", &pull("one", "m:2"));
    up.eventually_is("modelpull/one", ".spec.model", "m:2").await;
    up.eventually_has("modelpull/two", false).await;

    // The folder wins field by field.
    up.kubectl(&["patch", "modelpull/one", "--type=merge", "-p", r#"{"spec": {"model": "m:3", "priority": 7}}"#]).await;
    write(&folder, "b.yaml", &format!("{}# looked at again\n", pull("one", "m:2")));
    up.eventually_is("modelpull/one", ".spec.model", "m:2").await;
    assert_eq!(up.field("modelpull/one", ".spec.priority").await, "7");

    // What vanishes while nobody looks.
    up.process().kill9();
    fs::remove_dir_all(folder.join("more")).expect("removed");
    let folder = folder.to_str().expect("text");
    up.restart(&["--manifests", folder]).await;
    up.eventually_logs("ModelPull ml/inside is deleted").await;
    assert!(up.has("modelpull/one").await && up.has("modelpull/own").await && up.has("modelpull/copied").await);
}

#[tokio::test]
async fn a_bad_document_is_named_and_stops_neither_the_others_nor_deletes_anything() {
    let scratch = Scratch::new();
    let folder = scratch.join("manifests");
    write(&folder, "a.yaml", &pull("first", "m:1"));
    write(&folder, "b.yaml", &pull("second", "m:1"));
    let mut up = start(&scratch).await;
    up.eventually_has("modelpull/second", true).await;
    // Broken in its middle, with a good document on either side; and an update that is refused.
    write(&folder, "b.yaml", &format!("{}---\nspec: [1,\n---\n{}", pull("third", "m:1"), pull("fourth", "m:1")));
    write(&folder, "a.yaml", &pull("first", "m:1").replace("model:", "modell:"));
    up.eventually_has("modelpull/third", true).await;
    up.eventually_has("modelpull/fourth", true).await;
    up.eventually_logs("b.yaml, document 2").await;
    up.eventually_logs("a.yaml, document 1: ModelPull default/first").await;
    up.eventually_logs("are kept until all of it can be read").await;
    assert!(up.has("modelpull/second").await, "it may stand in what can't be read");
    up.eventually_is("events", ".items[?(@.reason==\"ManifestRefused\")].involvedObject.name", "first").await;
    write(&folder, "b.yaml", &pull("third", "m:1"));
    up.eventually_has("modelpull/second", false).await;
    up.eventually_has("modelpull/fourth", false).await;
    assert!(up.has("modelpull/first").await, "it stands there, though it is wrong");
    write(&folder, "a.yaml", &pull("first", "m:2"));
    up.eventually_is("modelpull/first", ".spec.model", "m:2").await;
    up.eventually_logs("all of them are applied now").await;
}

#[tokio::test]
async fn two_places_for_one_object_are_one_too_many() {
    let scratch = Scratch::new();
    let folder = scratch.join("manifests");
    write(&folder, "a.yaml", &pull("twice", "m:1"));
    write(&folder, "b.yaml", &pull("twice", "m:2"));
    let mut up = start(&scratch).await;
    up.eventually_logs("b.yaml, document 1: ModelPull default/twice stands already in a.yaml, document 1").await;
    assert_eq!(up.field("modelpull/twice", ".spec.model").await, "m:1");
}

/// As kubelet mounts a ConfigMap: files are links through `..data`, which is swapped for another folder in one step.
#[tokio::test]
async fn files_behind_links_that_are_swapped_are_seen() {
    let scratch = Scratch::new();
    let folder = scratch.join("manifests");
    write(&folder.join("..1"), "a.yaml", &pull("mounted", "m:1"));
    write(&folder.join("..2"), "a.yaml", &pull("mounted", "m:2"));
    symlink("..1", folder.join("..data")).expect("a link");
    symlink("..data/a.yaml", folder.join("a.yaml")).expect("a link");
    // A link back up is not followed for ever.
    fs::create_dir(folder.join("loop")).expect("a folder");
    symlink("..", folder.join("loop/back")).expect("a link");
    let up = start(&scratch).await;
    up.eventually_is("modelpull", ".items[*].spec.model", "m:1").await;
    symlink("..2", folder.join("..data_tmp")).expect("a link");
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("swapped");
    up.eventually_is("modelpull/mounted", ".spec.model", "m:2").await;
}

#[tokio::test]
async fn a_folder_that_is_away_or_empty_deletes_nothing() {
    let scratch = Scratch::new();
    let folder = scratch.join("manifests");
    let mut up = start(&scratch).await;
    up.eventually_logs("the folder can't be read").await;
    write(&folder, "a.yaml", &pull("kept", "m:1"));
    up.eventually_has("modelpull/kept", true).await;
    fs::rename(&folder, scratch.join("elsewhere")).expect("moved");
    fs::create_dir(&folder).expect("a folder");
    up.eventually_logs("it holds no manifest at all").await;
    fs::remove_dir(&folder).expect("removed");
    fs::rename(scratch.join("elsewhere"), &folder).expect("moved back");
    write(&folder, "b.yaml", &pull("new", "m:1"));
    up.eventually_has("modelpull/new", true).await;
    assert!(up.has("modelpull/kept").await);
}
