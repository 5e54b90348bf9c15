//! The files that a run writes: tried before the run, and each replaced as a whole after it. What is no regular file (a
//! device, a pipe) cannot be replaced, and is written to.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use tempfile::NamedTempFile;

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {source}", file = .file.display())]
pub struct OutputError {
    file: PathBuf,
    source: io::Error,
}

/// A file that a run is going to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    file: PathBuf,
    place: Place,
}

/// How what is written gets to where the file's name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A regular file, or none yet: it is replaced. The name is free of symbolic links, so that those stay.
    Regular(PathBuf),
    /// A device or a pipe: it is opened and written to.
    Special,
    /// What standard output is anyway: it is not opened again, as that would begin at the start of a file.
    StandardOutput,
}

impl Output {
    /// Sees to it that the file can be written, as nobody wants to hear that it cannot after minutes of work. What the
    /// file holds stays until there is something to replace it with, and no file is left if there will be nothing.
    pub fn new(file: &Path) -> Result<Self, OutputError> {
        let error = |source| OutputError { file: file.to_owned(), source };
        let output = Self { file: file.to_owned(), place: Place::of(file).map_err(error)? };
        match &output.place {
            Place::Regular(target) => temporary_beside(target).map(drop).map_err(error)?,
            // Opened once only, for whoever reads a pipe takes the first end of writing for the last.
            Place::Special => access(file, AccessFlags::W_OK).map_err(|errno| error(errno.into()))?,
            Place::StandardOutput => {}
        }
        Ok(output)
    }

    /// Writes the file.
    pub fn write(&self, text: &str) -> Result<(), OutputError> {
        let written = match &self.place {
            Place::Regular(target) => replace(target, text),
            Place::Special => {
                File::options().write(true).open(&self.file).and_then(|mut file| file.write_all(text.as_bytes()))
            }
            Place::StandardOutput => io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
        };
        written.map_err(|source| OutputError { file: self.file.clone(), source })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.file
    }
}

impl Place {
    fn of(file: &Path) -> io::Result<Self> {
        let found = match fs::metadata(file) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Regular(target_of(file))),
            Err(error) => return Err(error),
        };
        if found.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if is_standard_output(&found)? {
            return Ok(Self::StandardOutput);
        }
        if found.is_file() { fs::canonicalize(file).map(Self::Regular) } else { Ok(Self::Special) }
    }
}

/// Where symbolic links lead that end at nothing.
fn target_of(file: &Path) -> PathBuf {
    let mut target = file.to_owned();
    // Comes to an end: links that lead in a circle are not told as nothing, but as an error.
    while let Ok(link) = fs::read_link(&target) {
        target = folder_of(&target).join(link);
    }
    target
}

fn is_standard_output(found: &fs::Metadata) -> io::Result<bool> {
    // One that is closed is nothing that a name could lead to.
    let Ok(output) = io::stdout().as_fd().try_clone_to_owned() else { return Ok(false) };
    let output = File::from(output).metadata()?;
    Ok((output.dev(), output.ino()) == (found.dev(), found.ino()))
}

fn replace(target: &Path, text: &str) -> io::Result<()> {
    let mut temporary = temporary_beside(target)?;
    temporary.write_all(text.as_bytes())?;
    temporary.persist(target).map_err(|error| error.error)?;
    Ok(())
}

/// A file beside the target that goes away if it is not kept.
fn temporary_beside(target: &Path) -> io::Result<NamedTempFile> {
    // As any other file, and not only for its owner.
    let permissions = fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(".stress-").permissions(permissions).tempfile_in(folder_of(target))
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The folder for pages that nobody named a file for: beside the folder of the running executable.
pub fn page_folder(executable_folder: &Path) -> Result<PathBuf, OutputError> {
    let folder = executable_folder.parent().unwrap_or(executable_folder).join("stress");
    fs::create_dir_all(&folder).map_err(|source| OutputError { file: folder.clone(), source })?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, symlink};
    use std::thread;

    use nix::errno::Errno;
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    use nix::unistd::mkfifo;
    use test_support::skip;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("result.json");
        fs::write(&file, "old").unwrap();
        let output = Output::new(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        output.write("new").unwrap();
        assert_eq!(fs::read_to_string(output.path()).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_link_leads_to_is_replaced_and_not_the_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("result.json"), folder.path().join("link"));
        symlink("result.json", &link).unwrap();
        for text in ["first", "second"] {
            Output::new(&link).unwrap().write(text).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        let circle = folder.path().join("circle");
        symlink("circle", &circle).unwrap();
        assert!(Output::new(&circle).is_err());
    }

    #[test]
    fn a_pipe_is_written_to_and_ends_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let output = Output::new(&pipe).unwrap();
        let reader = thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).unwrap()
        });
        output.write("text").unwrap();
        assert_eq!(reader.join().unwrap(), "text");
        assert!(!fs::symlink_metadata(&pipe).unwrap().is_file());
    }

    #[test]
    fn a_device_stays_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("null");
        // As /dev/null; only root may make one, and only some file systems may hold one.
        let made = mknod(&device, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3));
        if let Err(error) = made.and_then(|()| File::options().write(true).open(&device).map(drop).map_err(errno)) {
            skip(format_args!("no device can be made: {error}"));
            return;
        }
        Output::new(&device).unwrap().write("text").unwrap();
        assert!(fs::symlink_metadata(&device).unwrap().file_type().is_char_device());
    }

    fn errno(error: io::Error) -> Errno {
        Errno::from_raw(error.raw_os_error().unwrap_or(0))
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let error = Output::new(Path::new("/nonexistent/result.json")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/result.json: ") && error.contains("No such file"), "{error}");
        assert!(Output::new(Path::new("/tmp")).unwrap_err().to_string().contains("directory"));
    }

    #[test]
    fn pages_are_beside_the_folder_of_the_program() {
        let target = tempfile::tempdir().unwrap();
        let folder = page_folder(&target.path().join("release")).unwrap();
        assert!(folder.is_dir() && folder == target.path().join("stress"));
    }
}
