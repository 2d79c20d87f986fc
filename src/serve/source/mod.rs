//! Where served bytes come from: files, folders, buckets.
//!
//! Invariants: nothing outside what was named is served; a file is read in pieces and never held whole; a file that changes
//! while it is sent ends the answer, so that no client ever holds bytes of two versions as one.

pub(in crate::serve) mod bucket;
mod local;
pub mod path;

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;

use self::bucket::{Bucket, BucketObject};
use self::local::{LocalFile, Root};

/// What the user wants served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// A file or a folder.
    Path(PathBuf),
    /// An object, or all below a prefix, in a bucket that speaks S3; credentials and endpoint by the usual `AWS_…` variables.
    Bucket { bucket: String, prefix: String },
}

impl SourceSpec {
    /// `s3://bucket/prefix`, or else a path.
    pub fn parse(arg: &OsStr) -> Result<Self, SourceError> {
        let Some(rest) = arg.to_str().and_then(|s| s.strip_prefix("s3://")) else { return Ok(Self::Path(arg.into())) };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(SourceError::NoBucket);
        }
        Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }

    /// What it is called in URLs: the last name of it.
    pub fn name(&self) -> Result<String, SourceError> {
        match self {
            Self::Path(path) => crate::torrent::create::default_name(path)
                .ok_or_else(|| SourceError::Name { what: path.display().to_string() }),
            Self::Bucket { bucket, prefix } => {
                Ok(prefix.rsplit('/').next().filter(|n| !n.is_empty()).unwrap_or(bucket).to_owned())
            }
        }
    }
}

impl std::fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Why something cannot be served at all.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("The folder or file to serve cannot be read: {}: {source}.", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is neither a file nor a folder.", path.display())]
    Neither { path: PathBuf },
    #[error("{what} has no name that fits into a web address.")]
    Name { what: String },
    #[error("Two of the things to serve are called {name}, so that their addresses would be the same.")]
    SameName { name: String },
    #[error("There is nothing to serve.")]
    Nothing,
    #[error("A bucket is named as s3://BUCKET or s3://BUCKET/PREFIX.")]
    NoBucket,
    #[error("The bucket {bucket} cannot be read: {reason}.")]
    Bucket { bucket: String, reason: String },
    #[error("There is neither an object {key} nor anything below it in the bucket {bucket}.")]
    EmptyBucket { bucket: String, key: String },
}

/// Why one file is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// Not there, or not for anybody to see: the same to who asks.
    NotFound,
    /// Too many files are open, or the bucket does not answer now.
    Busy,
    /// Anything else; the log says what.
    Failed,
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// With its quotes; weak ones start with `W/`.
    pub etag: String,
    pub modified: Option<SystemTime>,
}

/// A file that is being sent.
pub struct Object {
    /// Its own, without where it lies.
    pub name: String,
    /// Bytes.
    pub len: u64,
    pub version: Version,
    reader: Reader,
}

enum Reader {
    Local(LocalFile),
    Bucket(BucketObject),
}

impl Object {
    /// Reads up to `max` bytes at `at`, at least one. Fails when the file is no longer what it was when it was opened, or ends
    /// before that.
    pub async fn read(&mut self, at: u64, max: usize) -> io::Result<Bytes> {
        match &mut self.reader {
            Reader::Local(file) => file.read(at, max).await,
            Reader::Bucket(object) => object.read(at, max, self.len).await,
        }
    }
}

enum Source {
    /// A folder, or a file, on disk.
    Local(Root),
    Bucket(Bucket),
}

impl Source {
    async fn find(&self, names: &[String]) -> Result<Object, OpenError> {
        match self {
            Self::Local(root) => root.find(names).await,
            Self::Bucket(bucket) => bucket.find(names).await,
        }
    }
}

/// Something served, by its name.
struct Mount {
    name: String,
    source: Source,
}

/// All that is served.
pub struct Tree {
    mounts: Vec<Mount>,
}

impl Tree {
    /// Looks at each of `specs`. Fails when one cannot be read or two have the same name.
    pub async fn open(specs: &[SourceSpec]) -> Result<Self, SourceError> {
        let mut mounts: Vec<Mount> = Vec::with_capacity(specs.len());
        for spec in specs {
            let name = spec.name()?;
            if mounts.iter().any(|m| m.name == name) {
                return Err(SourceError::SameName { name });
            }
            let source = match spec {
                SourceSpec::Path(path) => Source::Local(Root::open(path)?),
                SourceSpec::Bucket { bucket, prefix } => Source::Bucket(Bucket::open(bucket, prefix).await?),
            };
            mounts.push(Mount { name, source });
        }
        if mounts.is_empty() { Err(SourceError::Nothing) } else { Ok(Self { mounts }) }
    }

    /// One bucket by itself.
    #[cfg(test)]
    pub(in crate::serve) fn of_bucket(name: &str, bucket: bucket::Bucket) -> Self {
        Self { mounts: vec![Mount { name: name.to_owned(), source: Source::Bucket(bucket) }] }
    }

    /// The file at these names: `/name-of-a-source/…`, or where there is but one source, below that directly.
    pub async fn find(&self, names: &[String]) -> Result<Object, OpenError> {
        let named =
            names.split_first().and_then(|(first, rest)| Some((self.mounts.iter().find(|m| m.name == *first)?, rest)));
        let found = match named {
            Some((mount, rest)) => mount.source.find(rest).await,
            None => Err(OpenError::NotFound),
        };
        match (found, self.mounts.as_slice()) {
            (Err(OpenError::NotFound), [only]) => only.source.find(names).await,
            (found, _) => found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_has_a_name() {
        let named = |s: &str| SourceSpec::parse(OsStr::new(s)).unwrap().name().unwrap();
        assert_eq!(named("/films/a film.mkv"), "a film.mkv");
        assert_eq!(named("s3://bucket"), "bucket");
        assert_eq!(named("s3://bucket/some/prefix/"), "prefix");
        assert!(SourceSpec::parse(OsStr::new("s3://")).is_err());
        assert!(SourceSpec::parse(OsStr::new("s3:///x")).is_err());
        assert_eq!(named("."), std::env::current_dir().unwrap().file_name().unwrap().to_string_lossy());
    }
}
