//! What the system asks of a running server by signals, but for its end.

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
