//! How long the core's steps take: `cargo bench -p faircopy-bench`. Times are noisy where cores are shared; see
//! `faircopy-bench --instructions` for what is not.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use faircopy_bench::operation::Operation;
use faircopy_bench::token;

fn core(criterion: &mut Criterion) {
    for operation in Operation::ALL {
        criterion.bench_function(operation.name(), |bencher| bencher.iter(operation.prepare()));
    }
    let token = token::good();
    criterion.bench_function("token", |bencher| bencher.iter(|| black_box(token.verify())));
    criterion.bench_function("token-again", |bencher| bencher.iter(|| black_box(token.verify_again())));
}

criterion_group!(benches, core);
criterion_main!(benches);
