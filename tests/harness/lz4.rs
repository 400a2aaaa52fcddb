//! Unpacks LZ4 frames, for batches that the daemon's producer has compressed. Checksums are not looked at.

/// The content of one frame.
pub fn unpack(frame: &[u8]) -> Vec<u8> {
    assert_eq!(frame[..4], [0x04, 0x22, 0x4d, 0x18], "an LZ4 frame");
    let flags = frame[4];
    let (block_checksum, content_size) = (flags & 0x10 != 0, flags & 0x08 != 0);
    // Magic, flags, block descriptor, header checksum.
    let mut rest = &frame[7 + if content_size { 8 } else { 0 }..];
    let mut content = vec![];
    loop {
        let (size, after) = rest.split_at(4);
        let size = u32::from_le_bytes(size.try_into().expect("four bytes"));
        let length = usize::try_from(size & 0x7fff_ffff).expect("a length");
        if length == 0 {
            return content;
        }
        let block = &after[..length];
        if size & 0x8000_0000 != 0 {
            content.extend(block);
        } else {
            unpack_block(block, &mut content);
        }
        rest = &after[length + if block_checksum { 4 } else { 0 }..];
    }
}

/// A block is a row of sequences: some bytes as they are, then a piece of what came before.
fn unpack_block(mut block: &[u8], content: &mut Vec<u8>) {
    while let Some((token, rest)) = block.split_first() {
        block = rest;
        let literals = length(usize::from(token >> 4), &mut block);
        content.extend(&block[..literals]);
        block = &block[literals..];
        if block.is_empty() {
            return; // the last sequence has no piece
        }
        let back = usize::from(u16::from_le_bytes([block[0], block[1]]));
        block = &block[2..];
        let piece = length(usize::from(token & 15), &mut block) + 4;
        // Byte by byte: a piece may reach into itself.
        for _ in 0..piece {
            content.push(content[content.len() - back]);
        }
    }
}

/// A length that goes on in the next bytes when its four bits are full.
fn length(bits: usize, block: &mut &[u8]) -> usize {
    let mut length = bits;
    let mut more = bits == 15;
    while more {
        length += usize::from(block[0]);
        more = block[0] == 255;
        *block = &block[1..];
    }
    length
}
