//! A disk of a given size: a tmpfs mounted over a folder, which is gone when the value is dropped. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Disk(PathBuf);

impl Disk {
    /// Mounts a disk of so many MiB on a folder, which is made if it isn't there.
    pub fn mount(folder: &Path, mib: u64) -> Self {
        std::fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "drover-test"]).arg(folder));
        Self(folder.to_owned())
    }

    /// Makes it bigger or smaller; what is on it stays.
    pub fn resize(&self, mib: u64) {
        run(Command::new("mount").args(["-o", &format!("remount,size={mib}m")]).arg(&self.0));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a program that is being killed may still have a file open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} (needs root): {}", String::from_utf8_lossy(&output.stderr));
}
