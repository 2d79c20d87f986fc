//! Objects in a bucket that speaks S3.
//!
//! Invariants: each answer is made of ranged reads that carry the object's ETag as a condition, so that they are of one
//! version; of an object no more is held than the client of the bucket buffers on its connection; what is remembered of objects
//! is bounded in number and time.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt,
    RetryConfig,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Object, OpenError, Reader, SourceError, Version};

/// Asked of the bucket at once. It is streamed through, not held; ends of it are where a slow reader's connection to the
/// bucket can be let go. S3 takes some 50 ms to the first byte: at 4 MiB that is noise.
const SLICE: u64 = 4 << 20;

/// How long what a HEAD told of an object is used: a player asks for a range each second. An object that changes meanwhile
/// is noticed by its ETag.
const FRESH: Duration = Duration::from_secs(10);

/// Objects remembered, a few hundred bytes each.
const REMEMBERED: usize = 4096;

/// Reads in a row that give nothing, until an answer is given up.
const TRIES: u32 = 3;

/// A bucket that says nothing for so long is as good as gone.
const SILENCE: Duration = Duration::from_secs(20);

pub(in crate::serve) struct Bucket {
    shared: Arc<Shared>,
    /// Where the names are looked for; empty for the whole bucket.
    prefix: String,
    /// The prefix is an object itself.
    single: bool,
}

struct Shared {
    store: Box<dyn ObjectStore>,
    known: Mutex<HashMap<Key, (Instant, ObjectMeta)>>,
}

impl Bucket {
    /// Looks whether there is such an object, or anything below the prefix.
    pub async fn open(bucket: &str, prefix: &str) -> Result<Self, SourceError> {
        Self::open_by(AmazonS3Builder::from_env(), bucket, prefix).await
    }

    /// The same with other credentials, or another endpoint, than the environment's.
    pub async fn open_by(s3: AmazonS3Builder, bucket: &str, prefix: &str) -> Result<Self, SourceError> {
        let failed = |e: object_store::Error| SourceError::Bucket { bucket: bucket.to_owned(), reason: reason(&e) };
        let options = ClientOptions::new()
            // A film takes as long as it is watched.
            .with_timeout_disabled()
            .with_connect_timeout(SILENCE)
            .with_read_timeout(SILENCE)
            // Whoever names an endpoint without TLS means it.
            .with_allow_http(true);
        let store = s3.with_bucket_name(bucket).with_client_options(options).with_retry(retry()).build();
        let shared = Arc::new(Shared { store: Box::new(store.map_err(failed)?), known: Mutex::default() });
        let key = Key::parse(prefix).map_err(|e| failed(e.into()))?;
        let single = match prefix.is_empty() {
            true => false,
            false => match shared.store.head(&key).await {
                Ok(_) => true,
                Err(object_store::Error::NotFound { .. }) => false,
                Err(e) => return Err(failed(e)),
            },
        };
        if !single {
            let mut below = shared.store.list(Some(&key));
            match below.next().await {
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(failed(e)),
                None => return Err(SourceError::EmptyBucket { bucket: bucket.to_owned(), key: prefix.to_owned() }),
            }
        }
        Ok(Self { shared, prefix: prefix.to_owned(), single })
    }

    /// The object at `names` below the prefix. Where the prefix is an object there is one only, at no names at all.
    pub async fn find(&self, names: &[String]) -> Result<Object, OpenError> {
        if names.is_empty() != self.single {
            return Err(OpenError::NotFound);
        }
        let mut key = self.prefix.clone();
        for name in names {
            if !key.is_empty() {
                key.push('/');
            }
            key.push_str(name);
        }
        // As it is: another escaping would be another key.
        let key = Key::parse(&key).map_err(|_| OpenError::NotFound)?;
        let meta = self.shared.meta(&key).await?;
        let modified = SystemTime::from(meta.last_modified);
        // A bucket without ETags is not S3, but then time and length must do.
        let etag = meta.e_tag.as_deref().and_then(quoted).unwrap_or_else(|| {
            format!("W/\"{:x}-{:x}\"", meta.last_modified.timestamp_nanos_opt().unwrap_or(0), meta.size)
        });
        Ok(Object {
            name: key.filename().unwrap_or_default().to_owned(),
            len: meta.size,
            version: Version { etag, modified: Some(modified) },
            reader: Reader::Bucket(BucketObject { shared: self.shared.clone(), meta, open: None }),
        })
    }
}

/// Less patience than object_store has by itself (ten tries in three minutes): a viewer waits, and can ask another server.
fn retry() -> RetryConfig {
    let (init_backoff, max_backoff) = (Duration::from_millis(50), Duration::from_secs(1));
    let backoff = BackoffConfig { init_backoff, max_backoff, base: 2.0 };
    RetryConfig { backoff, max_retries: 3, retry_timeout: Duration::from_secs(10) }
}

impl Shared {
    async fn meta(&self, key: &Key) -> Result<ObjectMeta, OpenError> {
        let now = Instant::now();
        if let Some((at, meta)) = self.known.lock().get(key)
            && now.saturating_duration_since(*at) < FRESH
        {
            return Ok(meta.clone());
        }
        let meta = self.store.head(key).await.map_err(|e| told(&e))?;
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            known.retain(|_, (at, _)| now.saturating_duration_since(*at) < FRESH);
            if known.len() >= REMEMBERED {
                known.clear();
            }
        }
        known.insert(key.clone(), (now, meta.clone()));
        Ok(meta)
    }

    fn forget(&self, key: &Key) {
        self.known.lock().remove(key);
    }
}

fn told(e: &object_store::Error) -> OpenError {
    match e {
        object_store::Error::NotFound { .. } => OpenError::NotFound,
        e => {
            tracing::warn!("the bucket: {}", reason(e));
            OpenError::Busy
        }
    }
}

/// As an ETag goes into a header; `None` for what is none.
fn quoted(tag: &str) -> Option<String> {
    let (weak, bare) = tag.strip_prefix("W/").map_or((false, tag), |t| (true, t));
    let bare = bare.trim_matches('"');
    let plain = !bare.is_empty() && bare.len() <= 256 && bare.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    plain.then(|| format!("{}\"{bare}\"", if weak { "W/" } else { "" }))
}

/// The innermost reason: object_store's own words begin with its types.
fn reason(e: &object_store::Error) -> String {
    let mut at: &dyn std::error::Error = e;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string().trim_end_matches('.').to_owned()
}

/// An object that is being sent.
pub(super) struct BucketObject {
    shared: Arc<Shared>,
    meta: ObjectMeta,
    open: Option<Slice>,
}

/// A ranged read under way.
struct Slice {
    at: u64,
    end: u64,
    body: BoxStream<'static, object_store::Result<Bytes>>,
    /// What came and was not asked for yet.
    rest: Bytes,
}

impl BucketObject {
    /// Up to `max` bytes at `at` of `len`. Reading on where the last read ended costs nothing; elsewhere a new ranged read begins.
    pub async fn read(&mut self, at: u64, max: usize, len: u64) -> io::Result<Bytes> {
        let mut tries = 0;
        loop {
            let mut slice = match self.open.take() {
                Some(slice) if slice.at == at && slice.at < slice.end => slice,
                _ => ask(&self.shared, &self.meta, at, len).await?,
            };
            if slice.rest.is_empty() {
                match slice.body.next().await {
                    Some(Ok(bytes)) => slice.rest = bytes,
                    failed => {
                        // A connection that a slow reader left idle may be gone; the condition holds for the next one too.
                        tries += 1;
                        if tries >= TRIES {
                            let why = failed
                                .and_then(Result::err)
                                .map_or("it sends less than it said".into(), |e| reason(&e));
                            return Err(io::Error::other(format!("the bucket: {why}")));
                        }
                        continue;
                    }
                }
            }
            if slice.rest.len() as u64 > slice.end - slice.at {
                return Err(io::Error::other("the bucket sends more than it was asked for"));
            }
            let bytes = slice.rest.split_to(slice.rest.len().min(max));
            slice.at += bytes.len() as u64;
            self.open = Some(slice);
            if !bytes.is_empty() {
                return Ok(bytes);
            }
        }
    }
}

/// Begins to read what is left of `len` bytes at `at`, a slice at most.
async fn ask(shared: &Shared, meta: &ObjectMeta, at: u64, len: u64) -> io::Result<Slice> {
    let end = at.saturating_add(SLICE).min(len);
    let options =
        GetOptions { range: Some(GetRange::Bounded(at..end)), if_match: meta.e_tag.clone(), ..GetOptions::default() };
    let got = shared.store.get_opts(&meta.location, options).await.map_err(|e| {
        shared.forget(&meta.location);
        io::Error::other(format!("the bucket: {}", reason(&e)))
    })?;
    let same = got.meta.size == meta.size && got.meta.e_tag == meta.e_tag && got.range == (at..end);
    if !same {
        shared.forget(&meta.location);
        return Err(io::Error::other("the object changed while it was served"));
    }
    let GetResultPayload::Stream(body) = got.payload;
    Ok(Slice { at, end, body, rest: Bytes::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_buckets_become_headers() {
        assert_eq!(quoted("\"abc\"").as_deref(), Some("\"abc\""));
        assert_eq!(quoted("abc-2").as_deref(), Some("\"abc-2\""));
        assert_eq!(quoted("W/\"x\"").as_deref(), Some("W/\"x\""));
        for bad in ["", "\"\"", "a\"b", "a b", "a\r\nb"] {
            assert_eq!(quoted(bad), None, "{bad:?}");
        }
    }
}
