//! UTF-8 that arrives in pieces: the first byte that cannot be right is found in the piece it is in.

/// The text can no longer become valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidUtf8;

/// What a stream of text is waiting for: nothing, or the rest of one character.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Utf8Stream {
    /// The character cut off at the end of the last piece.
    begun: [u8; 3],
    begun_bytes: u8,
}

impl Utf8Stream {
    /// Takes the next piece. After an error the stream is of no more use.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), InvalidUtf8> {
        // The cut-off character first, byte by byte: at most three turns.
        while self.begun_bytes != 0 {
            let Some((&byte, rest)) = piece.split_first() else { return Ok(()) };
            piece = rest;
            self.extend_begun(byte)?;
        }
        match simdutf8::compat::from_utf8(piece) {
            Ok(_) => Ok(()),
            // Bytes that are wrong whatever follows.
            Err(err) if err.error_len().is_some() => Err(InvalidUtf8),
            // Bytes that are right so far: one to three of them.
            Err(err) => {
                let begun = &piece[err.valid_up_to()..];
                self.begun[..begun.len()].copy_from_slice(begun);
                self.begun_bytes = begun.len() as u8;
                Ok(())
            }
        }
    }

    /// Whether the text may end here.
    pub(super) fn is_whole(&self) -> bool {
        self.begun_bytes == 0
    }

    fn extend_begun(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let have = usize::from(self.begun_bytes);
        let mut character = [0; 4];
        character[..have].copy_from_slice(&self.begun[..have]);
        character[have] = byte;
        match std::str::from_utf8(&character[..=have]) {
            Ok(_) => self.begun_bytes = 0,
            Err(err) if err.error_len().is_some() => return Err(InvalidUtf8),
            // Four bytes are a character or an error, so there is room for this one.
            Err(_) => {
                self.begun[have] = byte;
                self.begun_bytes += 1;
            }
        }
        Ok(())
    }
}
