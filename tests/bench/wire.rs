//! Bytes of a peer to messages and back, without sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::swarm::wire::{Decoder, Message, Span};
use sluicegate::units::BLOCK_LEN;

/// What one read of a fast socket brings.
const READ: usize = 64 * 1024;

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire/decode");
    let blocks = (0..64).map(|i| Message::Block {
        piece: i / 16,
        begin: i % 16 * BLOCK_LEN,
        data: Bytes::from(vec![i as u8; BLOCK_LEN as usize]),
    });
    for (name, messages) in
        [("blocks", blocks.collect::<Vec<_>>()), ("haves", (0..10_000).map(Message::Have).collect::<Vec<_>>())]
    {
        let mut stream = BytesMut::new();
        messages.iter().for_each(|m| m.put(&mut stream));
        let reads: Vec<&[u8]> = stream.chunks(READ).collect();
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let (mut decoder, mut buf, mut n) = (Decoder::default(), BytesMut::with_capacity(2 * READ), 0);
                for read in &reads {
                    // The copy stands for the kernel's.
                    buf.extend_from_slice(read);
                    while let Some(m) = decoder.next(&mut buf).unwrap() {
                        black_box(m);
                        n += 1;
                    }
                }
                assert_eq!(n, messages.len());
            });
        });
    }
}

fn encode(c: &mut Criterion) {
    let requests: Vec<Message> =
        (0..64).map(|i| Message::Request(Span { piece: i, begin: 0, len: BLOCK_LEN })).collect();
    let mut group = c.benchmark_group("wire/encode");
    group.throughput(Throughput::Elements(requests.len() as u64));
    group.bench_function("requests", |b| {
        b.iter_batched_ref(
            || BytesMut::with_capacity(4096),
            |out| requests.iter().for_each(|m| m.put(out)),
            BatchSize::SmallInput,
        );
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = decode, encode
}
criterion_main!(benches);
