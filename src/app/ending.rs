//! How the user or the system asks this program to end: Ctrl-C, or a request to terminate.

/// Until it is asked.
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

/// Asked once it does `then`; asked again it ends at once, with exit code 1.
pub async fn on_end(then: impl FnOnce()) {
    end_asked_for().await;
    then();
    end_asked_for().await;
    std::process::exit(1);
}

/// Asked it does `then`, on a thread of its own: for programs whose main thread has other things to wait for.
pub fn on_end_in_thread(then: impl FnOnce() + Send + 'static) {
    let body = move || {
        let Ok(rt) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        rt.block_on(end_asked_for());
        then();
    };
    // Without the thread a signal ends the program as it ends any other.
    if let Err(e) = std::thread::Builder::new().name("sluicegate-signal".into()).spawn(body) {
        tracing::warn!("no thread for signals: {e}");
    }
}
