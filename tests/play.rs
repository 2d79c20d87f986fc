//! Headless plays of real torrents from a real Transmission daemon and a real web server, judged by the pictures that came
//! out: each must be the one that ffmpeg decodes of the original.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "play/cut.rs"]
mod cut;
#[path = "play/made.rs"]
mod made;
#[path = "play/openings.rs"]
mod openings;
#[path = "play/origins.rs"]
mod origins;
#[path = "play/servers.rs"]
mod servers;
#[path = "play/swarm.rs"]
mod swarm;

use std::path::{Path, PathBuf};

use support::torrent::Torrent;
use support::{TempDir, temp_dir};

/// Piece size of the films here: small, so that a film has some hundred pieces.
const PIECE_KIB: u32 = 32;

/// A film as a torrent.
struct Shelf {
    dir: TempDir,
    torrent: Torrent,
}

impl Shelf {
    fn of(film: &Path) -> Shelf {
        let dir = temp_dir();
        let torrent = Torrent::of(film, dir.path(), PIECE_KIB);
        Shelf { dir, torrent }
    }

    /// A folder with the film in it between two other files, so that neither its start nor its end meets a piece's.
    fn of_folder(film: &Path) -> Shelf {
        let dir = temp_dir();
        let folder = dir.path().join("A film, with things");
        std::fs::create_dir_all(folder.join("Extras")).unwrap();
        std::fs::write(folder.join("000 read me.txt"), "Not a film.\n".repeat(1001)).unwrap();
        std::fs::copy(film, folder.join("film & more.mp4")).unwrap();
        std::fs::write(folder.join("Extras/zz cover.jpg"), vec![0x5a; 54_321]).unwrap();
        let torrent = Torrent::of(&folder, dir.path(), PIECE_KIB);
        Shelf { dir, torrent }
    }

    fn path(&self) -> PathBuf {
        self.torrent.path.clone()
    }

    /// Bytes of the film.
    fn len(&self) -> u64 {
        std::fs::metadata(self.torrent.content_dir.join(&self.torrent.name)).unwrap().len()
    }
}
