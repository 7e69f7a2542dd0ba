//! What single parts of the engine take, with bare JSON parsers over the same bytes as yardsticks.
//!
//! ```sh
//! cargo bench --manifest-path benches/engine/Cargo.toml
//! ```

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine_benches::{Kind, decoder, events, rules};
use watchfire::alert;
use watchfire::detect::Engine;
use watchfire::ids::Coordinate;
use watchfire::time::Timestamp;

const KINDS: [(&str, Kind); 2] = [("auth", Kind::Auth), ("windows", Kind::Windows)];

fn one(kind: Kind) -> Vec<u8> {
    events(kind, 1).remove(0)
}

fn decode(c: &mut Criterion) {
    for (name, kind) in KINDS {
        let (event, decoder) = (one(kind), decoder());
        let mut group = c.benchmark_group(format!("json_{name}"));
        group.throughput(Throughput::Bytes(event.len() as u64));
        group.bench_function("decode", |b| {
            b.iter(|| black_box(decoder.decode(Some(black_box(&event)), Timestamp(0))).is_ok());
        });
        group.bench_function("serde_json_value", |b| {
            b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(&event)));
        });
        group.bench_function("simd_json_tape", |b| {
            let mut buffers = simd_json::Buffers::new(event.len());
            let parse = |mut line: Vec<u8>| {
                black_box(simd_json::to_tape_with_buffers(&mut line, &mut buffers)).is_ok()
            };
            b.iter_batched(|| event.clone(), parse, BatchSize::SmallInput);
        });
        group.finish();
    }
}

fn detect(c: &mut Criterion) {
    let rules = rules();
    let decoder = decoder();
    for (name, kind) in KINDS {
        let bytes = one(kind);
        let event = decoder.decode(Some(&bytes), Timestamp(0)).expect("an event");
        let mut engine = Engine::new(Arc::clone(&rules));
        c.bench_function(&format!("detect_{name}"), |b| {
            b.iter(|| {
                let mut matches = 0;
                engine.detect(black_box(&event), |_| matches += 1);
                matches
            });
        });
    }
}

fn timestamp(c: &mut Criterion) {
    c.bench_function("timestamp_parse", |b| {
        b.iter(|| Timestamp::parse(black_box("2026-03-02T10:15:42.123Z")));
    });
}

fn alert_bytes(c: &mut Criterion) {
    let rules = rules();
    let bytes = one(Kind::Windows);
    let event = decoder().decode(Some(&bytes), Timestamp(0)).expect("an event");
    let at = Coordinate { topic: "logs".into(), partition: 3, offset: 1_234_567 };
    let templates = alert::Templates::new(rules, 0);
    let seen = alert::Decoded { event: &event, json: Some(&bytes) };
    c.bench_function("alert", |b| {
        b.iter(|| templates.of(0).alert(black_box(&seen), &at, Timestamp(0)).body);
    });
}

criterion_group!(parts, decode, detect, timestamp, alert_bytes);
criterion_main!(parts);
