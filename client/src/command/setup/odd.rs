//! Files as people and tools leave them: every short sequence of some pieces, with either end of lines, with and without
//! one at the end, and with a byte order mark.

pub(super) fn files(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = vec![Vec::new()];
    let mut start = 0;
    for _ in 0..3 {
        let end = bodies.len();
        for index in start..end {
            bodies.extend(
                pieces
                    .iter()
                    .map(|piece| [&bodies[index], *piece].concat())
                    .collect::<Vec<_>>(),
            );
        }
        start = end;
    }
    let dos = |body: &Vec<u8>| {
        body.iter()
            .flat_map(|byte| {
                if *byte == b'\n' {
                    &b"\r\n"[..]
                } else {
                    std::slice::from_ref(byte)
                }
            })
            .copied()
            .collect()
    };
    let mut files: Vec<Vec<u8>> = bodies.iter().map(dos).collect();
    files.append(&mut bodies);
    let cut: Vec<_> = files
        .iter()
        .filter_map(|file| file.strip_suffix(b"\n"))
        .map(|file| file.strip_suffix(b"\r").unwrap_or(file).to_vec())
        .collect();
    files.extend(cut);
    let marked: Vec<_> = files
        .iter()
        .map(|file| [b"\xef\xbb\xbf", file.as_slice()].concat())
        .collect();
    files.extend(marked);
    files.sort();
    files.dedup();
    files
}
