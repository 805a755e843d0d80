//! The file that templates are kept in.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::Value as Json;

use super::{StoreError, Template, Templates, exchange::misshapen, store::MOST};

/// A hundred templates of 64 KiB, each byte escaped, are less.
const FILE: u64 = 32 << 20;
/// Broken files that are kept.
const BROKEN: u32 = 1_000;

impl Templates {
    /// Reads the file, or starts with the built-in templates alone where there
    /// is none. Blocks on the disk. A file that cannot be read is kept aside as
    /// `NAME.broken-N`; templates in it that are good are kept in a new one.
    /// What people should know of that is returned as well.
    pub(crate) fn load(file: Option<&Path>) -> (Self, Vec<String>) {
        let mut templates = Self::default();
        let mut complaints = Vec::new();
        let Some(file) = file else { return (templates, complaints) };
        let whole = match read(file) {
            Ok(None) => return (templates, complaints),
            Ok(Some(bytes)) => templates.take_over(&bytes, &mut complaints),
            Err(error) => {
                complaints.push(format!("cannot read the templates in {}: {error}", file.display()));
                false
            }
        };
        if whole {
            return (templates, complaints);
        }
        match set_aside(file) {
            Ok(aside) => {
                complaints.push(format!("{} is kept as {}", file.display(), aside.display()));
                // Without this, the good ones would be gone with the next start.
                if templates.own().next().is_some()
                    && let Err(error) = write_atomically(file, &templates.to_json_bytes())
                {
                    complaints.push(format!("cannot write the others to {}: {error}", file.display()));
                }
            }
            Err(error) => complaints.push(format!(
                "{} cannot be kept aside: {error}; move it away before a template is saved",
                file.display()
            )),
        }
        (templates, complaints)
    }

    /// Takes all that is good in a file's content, and says whether that is all.
    fn take_over(&mut self, bytes: &[u8], complaints: &mut Vec<String>) -> bool {
        let document: Json = match serde_json::from_slice(bytes) {
            Ok(document) => document,
            Err(error) => {
                complaints.push(format!("the templates' file is no JSON: {error}"));
                return false;
            }
        };
        if document.get("version").is_none_or(|version| *version != 1) {
            complaints.push("the templates' file is not of version 1".into());
            return false;
        }
        let Some(entries) = document.get("templates").and_then(Json::as_array) else {
            complaints.push("the templates' file has no list of templates".into());
            return false;
        };
        let mut whole = entries.len() <= MOST;
        if !whole {
            complaints.push(format!(
                "the templates' file has {} templates, and {MOST} are possible",
                entries.len()
            ));
        }
        for (at, entry) in entries.iter().take(MOST).enumerate() {
            let place = format!("templates[{at}]");
            let put = match serde_json::from_value::<Template>(entry.clone()) {
                Ok(template) => self.put(template),
                Err(error) => Err(StoreError::Invalid(vec![misshapen(&place, &error)])),
            };
            if let Err(error) = put {
                complaints.push(format!("{place} of the templates' file is left out: {error}"));
                whole = false;
            }
        }
        let active = document.get("active").and_then(Json::as_str).unwrap_or_default();
        if self.activate(active).is_err() {
            let used = &self.active().name;
            complaints.push(format!("the template that was active is not there; {used} is used"));
        }
        whole
    }
}

/// The file's bytes; nothing where there is no file.
fn read(file: &Path) -> io::Result<Option<Vec<u8>>> {
    let kind = match fs::metadata(file) {
        Ok(kind) => kind,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // A pipe would be waited for.
    if !kind.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE {
        return Err(io::Error::other("it is larger than 32 MiB"));
    }
    Ok(Some(bytes))
}

/// Moves a file out of the way, to a name that nothing has.
fn set_aside(file: &Path) -> io::Result<PathBuf> {
    for number in 1..=BROKEN {
        let aside = beside(file, &format!(".broken-{number}"));
        match fs::symlink_metadata(&aside) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::rename(file, &aside)?;
                return Ok(aside);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("a thousand broken files are kept already"))
}

/// Writes a file, readable by its owner alone, so that there is either the old
/// content or the new one at any time, also when power fails. Blocks on the
/// disk.
///
/// # Errors
/// When the directory or the disk does not let it.
pub(crate) fn write_atomically(file: &Path, bytes: &[u8]) -> io::Result<()> {
    // Two writers never share one.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let new = beside(file, &format!(".new-{}-{count}", std::process::id()));
    let written = write_new(&new, bytes).and_then(|()| fs::rename(&new, file));
    if let Err(error) = written {
        // It may not even have come to be.
        fs::remove_file(&new).ok();
        return Err(error);
    }
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn write_new(new: &Path, bytes: &[u8]) -> io::Result<()> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(new);
    let mut opened = match open() {
        // Left by a process of the same number that ended amid this.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(new)?;
            open()?
        }
        opened => opened?,
    };
    opened.write_all(bytes)?;
    opened.sync_all()
}

/// The path with something appended to its last part.
fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    /// A directory of its own for each test, gone afterwards.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("millrace-templates-{name}-{}", std::process::id()));
            fs::remove_dir_all(&path).ok();
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("templates.json")
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn template(name: &str, token: &str) -> Json {
        json!({
            "name": name, "variant": "custom", "image": "a/b:c", "command": ["x", "{http_port}"],
            "parameters": { "access-token": token, "live-buffer": 10, "log-stdout": true },
            "environment": { "A": "b" }, "entrypoint": ["/e"], "container_port": 1,
        })
    }

    fn stored(templates: &[Json]) -> String {
        json!({ "version": 1, "active": "a", "templates": templates }).to_string()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let directory = Directory::new("round");
        let file = directory.file();
        assert_eq!(Templates::load(None).1, [""; 0]);
        let (mut templates, complaints) = Templates::load(Some(&file));
        assert_eq!((templates.list().count(), complaints), (3, vec![]), "no file is no fault");

        for name in ["a", "b"] {
            templates.put(serde_json::from_value(template(name, "hunter")).unwrap()).unwrap();
            templates.activate(name).unwrap();
            write_atomically(&file, &templates.to_json_bytes()).unwrap();
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(directory.names(), ["templates.json"]);
        let (read, complaints) = Templates::load(Some(&file));
        assert_eq!(complaints, [""; 0]);
        assert_eq!((read.export(), read.active().name.as_str()), (templates.export(), "b"));
        assert_eq!(read.get("a"), templates.get("a"), "with its secret");
    }

    #[test]
    fn a_broken_file_is_kept_aside_and_never_overwritten() {
        let directory = Directory::new("broken");
        let file = directory.file();
        let many: Vec<Json> = (0..101).map(|at| template(&format!("t{at}"), "x")).collect();
        let mut kept = 0;
        for (content, own, complaint) in [
            ("".to_owned(), 0, "is no JSON"),
            ("{".into(), 0, "is no JSON"),
            ("\u{0}".into(), 0, "is no JSON"),
            ("[]".into(), 0, "not of version 1"),
            ("{}".into(), 0, "not of version 1"),
            (json!({ "version": 2, "templates": [] }).to_string(), 0, "not of version 1"),
            (json!({ "version": 1 }).to_string(), 0, "no list of templates"),
            (
                stored(&[template("a", "x"), json!({ "name": "b" })]),
                1,
                "templates[1] of the templates' file is left",
            ),
            (stored(&[template("a", "x"), template("B", "x")]), 1, "name: is \"B\""),
            (stored(&[template("a", "x"), json!(7)]), 1, "templates[1]"),
            (stored(&[template("jopsis", "x"), template("a", "x")]), 1, "is built in"),
            (stored(&many), 100, "has 101 templates"),
            ("[".repeat(100_000), 0, "is no JSON"),
        ] {
            fs::write(&file, &content).unwrap();
            let (templates, complaints) = Templates::load(Some(&file));
            kept += 1;
            let aside = directory.0.join(format!("templates.json.broken-{kept}"));
            assert_eq!(templates.list().count(), 3 + own, "{content}");
            assert_eq!(fs::read_to_string(&aside).unwrap(), content);
            assert!(complaints[0].contains(complaint), "{complaints:?}");
            assert!(complaints.iter().any(|c| c.contains(&*aside.to_string_lossy())), "{complaints:?}");
            // The good ones are there at the next start, and nothing is moved again.
            let (again, complaints) = Templates::load(Some(&file));
            assert_eq!((again.list().count(), complaints), (3 + own, vec![]), "{content}");
            assert_eq!(directory.names().len(), kept + usize::from(own > 0));
            fs::remove_file(&file).ok();
        }
    }

    #[test]
    fn what_is_no_file_or_too_large_is_told_and_kept() {
        let directory = Directory::new("odd");
        let file = directory.file();
        fs::create_dir(&file).unwrap();
        let (templates, complaints) = Templates::load(Some(&file));
        assert_eq!(templates.list().count(), 3);
        assert!(complaints[0].contains("it is no file"), "{complaints:?}");
        File::create(&file).unwrap().set_len(FILE + 1).unwrap();
        let (_, complaints) = Templates::load(Some(&file));
        assert!(complaints[0].contains("larger than 32 MiB"), "{complaints:?}");
        assert_eq!(directory.names(), ["templates.json.broken-1", "templates.json.broken-2"]);
    }

    #[test]
    fn a_file_without_its_active_template_uses_the_first() {
        let directory = Directory::new("active");
        let file = directory.file();
        fs::write(&file, stored(&[template("b", "x")])).unwrap();
        let (templates, complaints) = Templates::load(Some(&file));
        assert_eq!((templates.active().name.as_str(), templates.list().count()), ("krinkuto11", 4));
        assert_eq!(complaints, ["the template that was active is not there; krinkuto11 is used"]);
        assert_eq!(directory.names(), ["templates.json"]);
    }

    #[test]
    fn complaints_show_no_secrets() {
        let directory = Directory::new("secret");
        let file = directory.file();
        let mut bad =
            vec![template("a", "@hunter"), template("b", "x"), template("c", "x"), template("d", "x")];
        bad[1]["environment"] = json!("TOKEN=hunter");
        bad[2]["environment"] = json!({ "TOKEN": ["hunter"] });
        bad[3]["container_port"] = json!("hunter");
        fs::write(&file, stored(&bad)).unwrap();
        let (_, complaints) = Templates::load(Some(&file));
        assert_eq!(complaints.len(), 6, "{complaints:?}");
        assert!(!format!("{complaints:?}").contains("hunter"), "{complaints:?}");
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_content_and_nothing_else() {
        let directory = Directory::new("write");
        let missing = directory.0.join("none").join("templates.json");
        assert!(write_atomically(&missing, b"x").is_err());
        let file = directory.file();
        fs::create_dir(&file).unwrap();
        assert!(write_atomically(&file, b"x").is_err(), "a directory is not replaced");
        assert_eq!(directory.names(), ["templates.json"]);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_are_loaded_or_complained_of(bytes: Vec<u8>) {
            let mut complaints = Vec::new();
            let whole = Templates::default().take_over(&bytes, &mut complaints);
            assert!(whole || !complaints.is_empty());
        }
    }
}
