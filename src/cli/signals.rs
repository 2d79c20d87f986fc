//! What the user or the system asks of a running program by signals.

/// Until the program is asked to end: Ctrl-C, or a request to terminate.
pub async fn end_asked_for() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut term) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the system's own way of ending holds.
        std::future::pending::<()>().await;
    }
}

/// Calls `reload` for each SIGHUP, for ever; where there is no such thing, never.
pub async fn each_hangup(reload: impl Fn()) {
    #[cfg(unix)]
    if let Ok(mut hangup) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        while hangup.recv().await.is_some() {
            reload();
        }
    }
    let _ = &reload;
    std::future::pending::<()>().await;
}
