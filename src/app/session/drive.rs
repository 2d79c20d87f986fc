//! The session's thread: step by step from what was handed over to a film, then the film, then the way down.
//!
//! Invariant: a step never waits. It looks at what has come, does what follows, and says how long it may sleep if
//! nobody wakes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::app::demo::Demo;
use crate::app::failure::{Failure, one_line};
use crate::app::lock::{CacheLock, LockError};
use crate::app::open::{Source, Wanted, file_name, shown_url};
use crate::app::session::choose::{Choice, choose};
use crate::app::session::film::{FilmPlay, FilmSource};
use crate::app::session::source::{Resolved, Resolving};
use crate::app::session::{Opened, SessionCommand, SessionOptions, SessionView, Shared, Stage};
use crate::app::snapshot::{FileChoice, Opening};
use crate::app::words::{self, Kind, Progress};
use crate::media::Player;
use crate::media::api::PlayerOptions;
use crate::stream::reader::{LocalFile, Reader};
use crate::stream::{Stream, StreamConfig, StreamSource};
use crate::swarm::Network;
use crate::torrent::Metainfo;

/// While something moves: often enough that nothing on screen looks late when a wakeup is missed.
pub const MOVING: Duration = Duration::from_millis(50);
/// Until the store is open, which takes milliseconds: each one counts before the first picture.
const STORE_OPENS: Duration = Duration::from_millis(4);
/// While only numbers can change.
pub const RESTING: Duration = Duration::from_millis(500);
/// A lock that another program holds may be on its way out.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

enum State {
    Resolving(Resolving),
    /// Waits for the session before this one, or for the lock on the cache.
    Waiting {
        resolved: Box<Resolved>,
        since: Instant,
    },
    /// The stream is up and looks for the torrent's description.
    Metadata,
    Choosing {
        name: String,
        files: Vec<FileChoice>,
        suggested: Option<usize>,
    },
    Film(Box<FilmPlay>),
    /// For the moment in which one state becomes the next.
    Between,
}

/// What the thread owns. The fields after `state` are taken down in their order.
pub struct Driver {
    rt: Handle,
    options: SessionOptions,
    shared: Arc<Shared>,
    wake: Arc<dyn Fn() + Send + Sync>,
    kind: Kind,
    title: String,
    progress: Progress,
    /// Of a plain video on the web.
    url: Option<String>,
    /// Files a magnet link asks for.
    selected: Vec<usize>,
    state: State,
    stream: Option<Stream>,
    lock: Option<CacheLock>,
    demo: Option<Demo>,
}

impl Driver {
    pub fn new(
        rt: Handle,
        opened: Opened,
        options: SessionOptions,
        shared: Arc<Shared>,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        let (kind, title) = match &opened {
            Opened::Demo => (Kind::Demo, "Demo".to_owned()),
            Opened::Wanted(Wanted::Magnet(m)) => {
                let name = m.name.as_ref().map(|n| one_line(n, 200)).filter(|n| !n.is_empty());
                (Kind::Magnet, name.unwrap_or_else(|| m.info_hash.to_string()))
            }
            Opened::Wanted(Wanted::Url(url)) => (Kind::Url, shown_url(url)),
            Opened::Wanted(Wanted::Path(path)) => (Kind::Local, file_name(path)),
        };
        let state = State::Resolving(Resolving::start(&rt, opened, &options.net, shared.signal.clone()));
        Self {
            rt,
            options,
            shared,
            wake,
            kind,
            title,
            progress: Progress { goal_s: crate::app::session::film::START_GOAL_S, ..Default::default() },
            url: None,
            selected: Vec::new(),
            state,
            stream: None,
            lock: None,
            demo: None,
        }
    }

    /// Until closed, or until it fails.
    pub fn run(mut self) {
        while !self.shared.closing.load(Ordering::Acquire) {
            let commands = std::mem::take(&mut *self.shared.commands.lock());
            let now = Instant::now();
            let stepped = commands.into_iter().try_for_each(|c| self.command(c)).and_then(|()| self.step(now));
            match stepped {
                Ok(sleep) => self.shared.signal.wait(sleep),
                Err(failure) => {
                    let film = self.shared.view.load().film.clone();
                    self.publish(SessionView { stage: Stage::Failed(failure), note: None, film });
                    break;
                }
            }
        }
        self.take_down();
    }

    /// Top-down: nothing above may still use what goes.
    fn take_down(mut self) {
        // The player first: its threads read from the stream.
        self.state = State::Between;
        if let Some(stream) = self.stream.take() {
            stream.stop();
            // The last numbers, for reports.
            self.shared.facts.lock().stream(&stream.status(), stream.first_byte());
        }
        self.lock = None;
        self.demo = None;
    }

    fn publish(&self, view: SessionView) {
        self.shared.view.store(Arc::new(view));
        (self.wake)();
    }

    fn command(&mut self, command: SessionCommand) -> Result<(), Failure> {
        match (&mut self.state, command) {
            (State::Film(film), command) => film.command(command, self.stream.as_ref()),
            (State::Choosing { .. }, SessionCommand::PlayFile(index)) => return self.open_file(index),
            (_, SessionCommand::SetVolume(v)) => self.options.player.volume = v,
            (_, SessionCommand::SetMuted(m)) => self.options.player.muted = m,
            _ => {}
        }
        Ok(())
    }

    /// Goes on as far as it can now. Answers how long to sleep at most; `None` is until woken.
    fn step(&mut self, now: Instant) -> Result<Option<Duration>, Failure> {
        loop {
            if let Some(stream) = &self.stream {
                let status = stream.status();
                if let Some(error) = &status.error {
                    let advice = "What has arrived is kept; put that right and open it again";
                    return Err(Failure::input(error.clone(), advice));
                }
                let mut facts = self.shared.facts.lock();
                if !facts.stream.as_ref().is_some_and(|s| Arc::ptr_eq(s, &status)) {
                    facts.stream(&status, stream.first_byte());
                }
            }
            match std::mem::replace(&mut self.state, State::Between) {
                State::Resolving(resolving) => match resolving.take() {
                    Some(resolved) => {
                        self.state = State::Waiting { resolved: Box::new(resolved?), since: now };
                        continue;
                    }
                    None => {
                        self.state = State::Resolving(resolving);
                        self.show_opening();
                        return Ok(None);
                    }
                },
                State::Waiting { resolved, since } => {
                    if self.may_start(&resolved, since, now)? {
                        self.start(*resolved)?;
                        continue;
                    }
                    self.state = State::Waiting { resolved, since };
                    self.show_opening();
                    return Ok(Some(MOVING));
                }
                State::Metadata => match self.stream.as_ref().and_then(Stream::metainfo) {
                    Some(meta) => {
                        self.shared.facts.lock().metadata.get_or_insert(now);
                        self.choose(&meta)?;
                        continue;
                    }
                    None => {
                        self.state = State::Metadata;
                        self.show_opening();
                        let known = self.shared.facts.lock().metadata.is_some();
                        return Ok(Some(if known { STORE_OPENS } else { MOVING }));
                    }
                },
                State::Choosing { name, files, suggested } => {
                    let shown = matches!(self.shared.view.load().stage, Stage::Choose { .. });
                    if !shown {
                        let stage = Stage::Choose { name: name.clone(), files: files.clone(), suggested };
                        self.publish(SessionView { stage, note: None, film: None });
                    }
                    self.state = State::Choosing { name, files, suggested };
                    return Ok(Some(RESTING));
                }
                State::Film(mut film) => {
                    let sleep = film.step(now, self.stream.as_ref(), &self.shared.facts);
                    let opening = film.is_opening();
                    let view = film.view_if_changed(now);
                    self.state = State::Film(film);
                    let sleep = sleep?;
                    if opening {
                        self.show_opening();
                    } else if let Some(view) = view {
                        self.publish(view);
                    }
                    return Ok(sleep);
                }
                State::Between => return Err(Failure::machine("Opening broke off", "Try again")),
            }
        }
    }

    /// Whether port and cache are free. Takes the lock on the cache.
    fn may_start(&mut self, resolved: &Resolved, since: Instant, now: Instant) -> Result<bool, Failure> {
        if self.options.after.as_ref().is_some_and(|a| !a.is_closed()) {
            return Ok(false);
        }
        let name = match &resolved.source {
            Source::Local(_) => return Ok(true),
            Source::Torrent(meta) => meta.info_hash.to_string(),
            Source::Magnet(magnet) => magnet.info_hash.to_string(),
            Source::Video { url } => format!("url-{:016x}", hash(url)),
        };
        if let Some(demo) = &resolved.demo {
            // Nobody else knows this folder.
            self.options.net.cache_dir = demo.cache_folder();
            return Ok(true);
        }
        match CacheLock::take(&self.options.net.cache_dir, &name) {
            Ok(lock) => {
                self.lock = Some(lock);
                Ok(true)
            }
            Err(LockError::Taken) if now.saturating_duration_since(since) < LOCK_PATIENCE => Ok(false),
            Err(e @ LockError::Taken) => Err(Failure::machine(
                e.to_string(),
                "Close it there, or give this one a cache folder of its own with --cache",
            )),
            Err(e @ LockError::Folder { .. }) => {
                Err(Failure::input(e.to_string(), "Choose another folder with --cache or in the settings"))
            }
        }
    }

    /// Starts the network, or opens the local file.
    fn start(&mut self, resolved: Resolved) -> Result<(), Failure> {
        self.progress.resolved = true;
        let Resolved { source, peers, blocklist, demo } = resolved;
        let net = &self.options.net;
        let mut config = StreamConfig {
            cache_dir: net.cache_dir.clone(),
            listen: net.listen.filter(|_| net.use_swarm),
            dht: net.dht,
            lsd: net.lsd,
            pex: net.pex,
            peers,
            web_seeds: net.web_seeds.clone(),
            use_server: net.use_server,
            use_swarm: net.use_swarm,
            max_links: net.max_links,
            encryption: net.encryption,
            utp: net.utp,
            up_limit: net.up_limit,
            down_limit: net.down_limit,
            priority: true,
            network: Network {
                route: net.route.clone(),
                blocklist,
                map_port: net.map_port,
                dht_nodes: net.dht_nodes.clone(),
                dht_bootstrap: Vec::new(),
            },
        };
        if let Some(demo) = &demo {
            // All of it is on this machine: nobody else is to be asked.
            (config.dht, config.lsd, config.network) = (false, false, Network::default());
            (config.up_limit, config.down_limit) = (None, None);
            config.web_seeds = vec![demo.web_seed().to_owned()];
        }
        let source = match source {
            Source::Local(path) => {
                self.kind = Kind::Local;
                return self.open_local(&path);
            }
            Source::Torrent(meta) => {
                if self.kind != Kind::Demo {
                    self.kind = Kind::Torrent;
                    self.title = one_line(&meta.name, 200);
                }
                self.shared.facts.lock().metadata = Some(Instant::now());
                StreamSource::Torrent(meta)
            }
            Source::Magnet(magnet) => {
                self.selected = magnet.select_only.clone();
                StreamSource::Magnet(magnet)
            }
            Source::Video { url } => {
                config.use_server = true;
                self.url = Some(url.clone());
                StreamSource::Video { url }
            }
        };
        self.demo = demo;
        self.shared.facts.lock().stream_started = Some(Instant::now());
        let stream = Stream::start(&self.rt, source, config, self.waker());
        let stream =
            stream.map_err(|e| Failure::input(e.to_string(), "Check the cache folder and the addresses given"))?;
        self.stream = Some(stream);
        self.state = State::Metadata;
        Ok(())
    }

    /// Wakes this thread; does no work.
    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let signal = self.shared.signal.clone();
        Arc::new(move || signal.notify())
    }

    fn open_local(&mut self, path: &std::path::Path) -> Result<(), Failure> {
        let file = LocalFile::open(path);
        let name = file_name(path);
        let file =
            file.map_err(|e| Failure::input(format!("{name} cannot be read: {e}"), "Check the disk it lies on"))?;
        let source = FilmSource {
            key: format!("file:{}", path.display()),
            title: title(&name),
            magnet: None,
            file: crate::units::ByteRange::new(0, 0),
            piece_len: 0,
            has_peers: false,
        };
        self.play(Reader::new(Arc::new(file)), source);
        Ok(())
    }

    fn choose(&mut self, meta: &Metainfo) -> Result<(), Failure> {
        self.progress.metadata = true;
        match choose(meta, &self.selected, self.options.several)? {
            Choice::Play(index) => self.open_file(index),
            Choice::Ask { files, suggested } => {
                self.state = State::Choosing { name: one_line(&meta.name, 200), files, suggested };
                Ok(())
            }
        }
    }

    fn open_file(&mut self, index: usize) -> Result<(), Failure> {
        let Some((stream, meta)) = self.stream.as_ref().and_then(|s| Some((s, s.metainfo()?))) else { return Ok(()) };
        // An index that is not in the list is not from our window.
        let Some(file) = meta.files.get(index).filter(|f| !f.padding) else { return Ok(()) };
        let advice = "Open it again, or choose another file";
        let reader = stream.open_file(index).map_err(|e| Failure::input(e.to_string(), advice))?;
        let name = if meta.multi_file { file_name(&file.path) } else { one_line(&meta.name, 200) };
        let (key, magnet) = match &self.url {
            Some(url) => (format!("url:{url}"), None),
            None => (format!("btih:{}/{index}", meta.info_hash), Some(magnet_of(&meta, index))),
        };
        let source = FilmSource {
            key,
            title: title(&name),
            magnet,
            file: file.range,
            piece_len: meta.layout.piece_len(),
            has_peers: self.has_peers(),
        };
        self.play(reader, source);
        Ok(())
    }

    fn play(&mut self, reader: Reader, source: FilmSource) {
        let start_at = self.options.resume.get(&source.key).copied().unwrap_or(self.options.player.start_at);
        let options = PlayerOptions { start_at, ..self.options.player.clone() };
        {
            let mut facts = self.shared.facts.lock();
            facts.player_opened = Some(Instant::now());
            facts.title.clone_from(&source.title);
        }
        let (volume, muted) = (options.volume, options.muted);
        self.title.clone_from(&source.title);
        let player = Player::open(reader, options, self.waker());
        self.state = State::Film(Box::new(FilmPlay::new(player, source, volume, muted, start_at)));
    }

    /// Whether peers may be asked: a plain video has none.
    fn has_peers(&self) -> bool {
        self.options.net.use_swarm && self.url.is_none()
    }

    /// Publishes the steps of opening where they changed.
    fn show_opening(&mut self) {
        if let Some(stream) = &self.stream {
            let status = stream.status();
            let e = &status.engine;
            self.progress.links = status.peers.len();
            self.progress.servers = e.origins;
            self.progress.bytes = e.totals.swarm + e.totals.server > 0 || e.pieces_here > 0;
            self.progress.ahead_s = e.ahead_s;
            self.progress.discovery = status.discovery.clone();
        }
        if let State::Film(film) = &self.state {
            self.progress.index = film.has_index();
        }
        let steps = words::steps(self.kind, &self.progress);
        let alone = self.progress.links == 0 && self.progress.servers == 0 && !self.progress.bytes;
        let detail = match &self.stream {
            Some(stream) if alone && self.url.is_none() => words::looking(&stream.status(), self.has_peers()),
            _ => String::new(),
        };
        let shown = self.shared.view.load();
        if let Stage::Opening(o) = &shown.stage
            && o.steps == steps
            && o.detail == detail
            && o.title == self.title
        {
            return;
        }
        self.shared.facts.lock().waiting = Some(if detail.is_empty() {
            steps.last().map(|s| s.text.clone()).unwrap_or_default()
        } else {
            detail.clone()
        });
        let film = shown.film.clone();
        let opening = Opening { title: self.title.clone(), steps, detail };
        self.publish(SessionView { stage: Stage::Opening(opening), note: None, film });
    }
}

/// The same for the same words within one build: two instances of it must agree.
fn hash(words: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut h = DefaultHasher::new();
    words.hash(&mut h);
    h.finish()
}

/// A file's name without the ending that says nothing to a viewer.
fn title(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() && (2..=4).contains(&ending.len()) => stem.to_owned(),
        _ => name.to_owned(),
    }
}

/// Trackers and web seeds a magnet link carries at most: links have to fit into a history entry.
const IN_MAGNET_MAX: usize = 20;

/// A magnet link of the same torrent and file, for when its .torrent is gone.
fn magnet_of(meta: &Metainfo, index: usize) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("dn", &meta.name);
    for t in meta.trackers.iter().flatten().take(IN_MAGNET_MAX) {
        query.append_pair("tr", t);
    }
    for w in meta.web_seeds.iter().take(IN_MAGNET_MAX) {
        query.append_pair("ws", w);
    }
    query.append_pair("so", &index.to_string());
    format!("magnet:?xt=urn:btih:{}&{}", meta.info_hash, query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_lose_only_endings() {
        assert_eq!(title("Film 1.5.mkv"), "Film 1.5");
        assert_eq!(title(".hidden"), ".hidden");
        assert_eq!(title("Dr. Who and friends"), "Dr. Who and friends");
        assert_eq!(title("a.b"), "a.b");
    }
}
