//! How others may read a path.

/// A path as the most helpful of servers reads it.
pub(crate) fn segments(path: &str, decodings: usize) -> Vec<String> {
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..decodings {
        let mut decoded = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let pair = bytes.get(at + 1..at + 3);
            let pair = pair.and_then(|pair| std::str::from_utf8(pair).ok());
            let byte = pair
                .filter(|pair| !pair.starts_with('+'))
                .and_then(|pair| u8::from_str_radix(pair, 16).ok());
            match byte {
                Some(byte) if bytes[at] == b'%' => {
                    decoded.push(byte);
                    at += 3;
                }
                _ => {
                    decoded.push(bytes[at]);
                    at += 1;
                }
            }
        }
        bytes = decoded;
    }
    let mut segments = Vec::new();
    for segment in bytes.split(|byte| matches!(byte, b'/' | b'\\')) {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            segment => segments.push(String::from_utf8_lossy(segment).into_owned()),
        }
    }
    segments
}
