//! The engine image: the emulator as a static binary on nothing.

use std::{
    env, fs,
    fs::File,
    hash::{DefaultHasher, Hasher},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use rustix::fs::{FlockOperation, flock};

use super::daemon::Dockerd;

/// The image's name.
pub(crate) const IMAGE: &str = "engine-emulator";
/// What a container of it runs; its arguments follow.
const ENTRYPOINT: &str = r#"ENTRYPOINT ["/engine-emulator", "--fast"]"#;
/// Size of a block of a tar archive, and of its head.
const BLOCK: usize = 512;

impl Dockerd {
    /// Makes the image.
    pub(crate) fn make_image(&self) {
        self.make_image_as(IMAGE);
    }

    /// Makes the image under another name or tag.
    pub(crate) fn make_image_as(&self, name: &str) {
        let archive = archive("engine-emulator", &fs::read(emulator()).expect("it has just been linked"));
        let (uri, config) = (self.uri(), self.config());
        let mut command = Command::new("docker");
        command
            .args(["--host", &uri, "--config"])
            .arg(config)
            .args(["import", "--change", ENTRYPOINT, "-", name]);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut docker = spawned.expect("docker is there");
        // An early end shows in its status, with the reason.
        docker.stdin.take().expect("piped").write_all(&archive).ok();
        let output = docker.wait_with_output().expect("a child can be waited for");
        assert!(output.status.success(), "docker import: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts an emulated engine on `port` of 127.0.0.1, in a container called
    /// `name` with these options of `docker run` and these of the emulator.
    pub(crate) fn run_engine(&self, name: &str, port: u16, options: &[&str], emulator: &[&str]) {
        let port = port.to_string();
        let mut args = vec!["run", "--detach", "--network", "host", "--name", name];
        args.extend(options);
        args.extend([IMAGE, "--first-port", &port]);
        args.extend(emulator);
        self.docker(&args);
    }
}

/// The emulator as a static, stripped binary; its path. Linked once for each
/// state of the source, from what cargo has built already for this test or
/// bench: another build, with other flags, would take the better part of a
/// minute. The C library is chosen by the last link, so that the same
/// libraries serve.
pub(crate) fn emulator() -> PathBuf {
    let deps = env::current_exe().expect("we run").parent().expect("a file is somewhere").to_owned();
    let library = newest(&deps, "libmillrace_emulator-");
    let kept = deps.with_file_name("engine-image");
    fs::create_dir_all(&kept).expect("the target directory is ours");
    let binary = kept.join(format!("engine-emulator-{:016x}", hash(&library)));
    let lock = File::create(kept.join("lock")).expect("the target directory is ours");
    flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");
    if !binary.exists() {
        for old in fs::read_dir(&kept).into_iter().flatten().flatten() {
            if old.file_name().to_string_lossy().starts_with("engine-emulator-") {
                fs::remove_file(old.path()).ok();
            }
        }
        let unfinished = kept.join("unfinished");
        link(&library, &deps, &unfinished);
        fs::rename(unfinished, &binary).expect("the target directory is ours");
    }
    binary
}

/// The library that cargo has built last: whatever it is, it is of the source
/// as it is now, as this program is.
fn newest(deps: &Path, start: &str) -> PathBuf {
    let entries = fs::read_dir(deps).expect("we are in there").flatten();
    let is_it = |name: &str| name.starts_with(start) && name.ends_with(".rlib");
    let found = entries.filter(|e| e.file_name().to_str().is_some_and(is_it));
    let built = |e: &fs::DirEntry| e.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let newest = found.max_by_key(built);
    newest.unwrap_or_else(|| panic!("no {start}* in {}: run by cargo?", deps.display())).path()
}

fn hash(file: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut file = File::open(file).expect("cargo has built it");
    let mut part = vec![0; 1 << 20];
    loop {
        match file.read(&mut part).expect("it can be read") {
            0 => return hasher.finish(),
            count => hasher.write(&part[..count]),
        }
    }
}

fn link(library: &Path, deps: &Path, out: &Path) {
    // That of the cargo which runs us, if one does.
    let rustc = env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustc"));
    let rustc = rustc.filter(|path| path.is_file()).unwrap_or_else(|| "rustc".into());
    let main = Path::new(env!("CARGO_MANIFEST_DIR")).join("control/emulator/src/main.rs");
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "--crate-name", "engine_emulator", "--crate-type", "bin"]).arg(main);
    command.arg("--extern").arg(format!("millrace_emulator={}", library.display()));
    command.arg("-L").arg(format!("dependency={}", deps.display())).arg("-o").arg(out);
    command.args(["-C", "target-feature=+crt-static", "-C", "strip=symbols", "-C", "panic=abort"]);
    if !cfg!(debug_assertions) {
        // The release profile's libraries are for that only.
        command.args(["-C", "opt-level=3", "-C", "lto=thin"]);
    }
    let output = command.output().expect("rustc is there");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A tar archive of one program.
fn archive(name: &str, program: &[u8]) -> Vec<u8> {
    let mut head = [0; BLOCK];
    let octal = |value: usize| format!("{value:011o}");
    let mut put = |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &octal(program.len()));
    put(136, &octal(0));
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = head.iter().copied().map(u32::from).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = head.to_vec();
    archive.extend(program);
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}
