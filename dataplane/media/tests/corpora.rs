//! The corpora of the fuzz targets, replayed where there is no fuzzer.

use std::{fs, path::Path};

#[path = "../fuzz/invariants.rs"]
mod invariants;

#[test]
fn what_fuzzing_found_stays_handled() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for name in ["packet", "aligner", "indexer", "formats", "hls"] {
        let run = match name {
            "packet" => invariants::packet,
            "aligner" => invariants::aligner,
            "indexer" => invariants::indexer,
            "formats" => invariants::formats,
            _ => invariants::hls,
        };
        let files = fs::read_dir(corpora.join(name)).unwrap();
        let mut count = 0;
        for file in files {
            run(&fs::read(file.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count >= 5, "{name} has a corpus of {count}");
    }
}
