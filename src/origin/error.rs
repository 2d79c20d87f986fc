//! What goes wrong with a server, and whether another try can help.

use std::time::Duration;

/// Why a URL that the user opened gave nothing, in one plain sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not an absolute http or https URL.
    #[error("That is not a web address this player can open: {0}.")]
    BadUrl(String),
    /// A file name in the torrent that no URL can express.
    #[error("The torrent names a file in a way no web address can express: {0:?}.")]
    BadName(String),
    /// The HTTP client could not be made (no usable TLS set-up).
    #[error("Web servers cannot be reached from this machine: {0}.")]
    Client(String),
    /// The network failed, or the server did; trying again later may help.
    #[error("{host} could not be reached: {reason}.")]
    Unreachable { host: String, reason: String },
    /// The server answered, and its answer is of no use.
    #[error("{host} {reason}.")]
    Refused { host: String, reason: String },
    /// The answer is larger than what was asked for may be.
    #[error("{host} sent more than {max} bytes; that is no torrent file.")]
    TooLarge { host: String, max: usize },
}

/// How one request ended short of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The network or the server failed; the same request may succeed later.
    Break(String),
    /// The server asked to be left in peace for a while.
    Busy { wait: Duration, reason: String },
    /// The server is of no use for these bytes. Reads on after the server's name: "ignores Range".
    Refused(String),
}

impl Fault {
    pub fn reason(&self) -> &str {
        match self {
            Fault::Break(r) | Fault::Refused(r) | Fault::Busy { reason: r, .. } => r,
        }
    }

    /// As told to the user about `host`.
    pub fn into_error(self, host: String) -> OriginError {
        match self {
            Fault::Break(reason) => OriginError::Unreachable { host, reason },
            Fault::Busy { reason, .. } | Fault::Refused(reason) => OriginError::Refused { host, reason },
        }
    }
}
