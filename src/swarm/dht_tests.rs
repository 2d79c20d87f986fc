//! The file of nodes, and whole networks on loopback.

use std::net::Ipv4Addr;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::swarm::tests::{LIMIT, config};
use crate::swarm::{Network, Swarm, SwarmConfig};

fn node(n: u8) -> Node {
    (Id20::new([n; 20]), SocketAddr::from(([10, 0, 0, n], 6881)))
}

#[test]
fn nodes_are_written_and_read_and_garbage_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c").join("nodes");
    let some = vec![node(1), (Id20::new([9; 20]), "[2001:db8::1]:7".parse().unwrap())];
    write(&path, &some).unwrap();
    assert_eq!(parse(&std::fs::read_to_string(&path).unwrap()), some);
    let id = "ab".repeat(20);
    let text = format!("{HEAD}\nx\n{id} 1.2.3.4:0\n{id} nope\nzz 1.2.3.4:5\n{id} 1.2.3.4:5\n{id} 0.0.0.0:9\n\0");
    assert_eq!(parse(&text).len(), 1);
    assert_eq!(parse(&format!("{id} 1.2.3.4:5\n")), [], "another program's file");
    let many: String = (0..5000).map(|i| format!("{id} 10.0.{}.{}:1\n", i / 256, i % 256)).collect();
    assert!(parse(&format!("{HEAD}\n{many}")).len() <= MAX_NODES);
}

proptest::proptest! {
    #[test]
    fn any_file_is_read(text in "\\PC{0,200}") {
        let _ = parse(&format!("{HEAD}\n{text}"));
    }
}

async fn start(nodes: &[Node], bootstrap: Vec<String>) -> Dht {
    let config = DhtConfig {
        bootstrap_addrs: Some(bootstrap),
        listen_addr: Some("127.0.0.1:0".parse().unwrap()),
        ..knowing(nodes)
    };
    DhtState::with_config(config).await.unwrap()
}

#[tokio::test]
async fn the_crate_still_takes_a_table_from_text() {
    let known = start(&[node(1), node(2)], vec!["127.0.0.1:9".into()]).await;
    assert_eq!(known.stats().routing_table_size, 2);
}

/// A node on loopback that knows `others`; the crate's nodes never learn of one by being asked. Nodes announce only to those
/// whose ids are near the torrent's, so that all are.
async fn member(hash: [u8; 20], n: u8, others: &[Node]) -> (Dht, Node, CancellationToken) {
    let (mut id, token) = (hash, CancellationToken::new());
    id[19] ^= n;
    let config = DhtConfig {
        peer_id: Some(Id20::new(id)),
        bootstrap_addrs: Some(vec!["127.0.0.1:9".into()]),
        listen_addr: Some((Ipv4Addr::LOCALHOST, 0).into()),
        cancellation_token: Some(token.clone()),
        ..knowing(others)
    };
    let dht = DhtState::with_config(config).await.unwrap();
    let node = (Id20::new(id), dht.listen_addr());
    (dht, node, token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_play_finds_peers_without_the_node_that_the_first_joined_at() {
    let hash: [u8; 20] = rand::random();
    let (_stays, second, _token) = member(hash, 2, &[]).await;
    let (first, entry, gone) = member(hash, 1, &[second]).await;
    let (third, _, _token) = member(hash, 3, &[entry, second]).await;
    let joined_at = entry.1.to_string();
    // The peer that is to be found, announced by one of them again and again.
    let peer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut announced = third.get_peers(Id20::new(hash), Some(peer.local_addr().unwrap().port()));
    let announcing = tokio::spawn(async move { while announced.next().await.is_some() {} });
    let dir = tempfile::tempdir().unwrap();
    let nodes = dir.path().join("nodes");
    let play = || {
        let network =
            Network { dht_nodes: Some(nodes.clone()), dht_bootstrap: vec![joined_at.clone()], ..Network::default() };
        // Who listens announces itself, and would be found in the place of the peer.
        let config = SwarmConfig { dht: true, listen: None, network, ..config(hash, vec![]) };
        let (tx, events) = tokio::sync::mpsc::channel(8);
        (Swarm::start(&Handle::current(), config, None, tx).unwrap(), events)
    };
    let (swarm, _events) = play();
    timeout(LIMIT * 4, peer.accept()).await.expect("found by nobody").unwrap();
    swarm.shutdown().await;
    let known = load(Some(&nodes)).await;
    assert!(known.contains(&second), "{known:?}");
    gone.cancel();
    drop(first);
    let (swarm, _events) = play();
    timeout(LIMIT * 4, peer.accept()).await.expect("not found again").unwrap();
    swarm.shutdown().await;
    announcing.abort();
}
