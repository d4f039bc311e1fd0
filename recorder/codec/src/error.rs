/// Why a codec refused. The message says who must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The library lacks the codec or refuses its settings.
    #[error("failed to open {codec}: {reason}; the image must carry FFmpeg >= 5.1 with it and the settings must be ones it takes")]
    Open { codec: &'static str, reason: String },
    /// The caller broke a documented shape (length, size, order). Nothing was consumed.
    #[error("failed to use {codec}: {reason}; this is a fault in the recorder, please report it")]
    Misuse { codec: &'static str, reason: String },
    /// The bytes are not what the codec reads. The decoder stays usable: drop the packet, and for video ask for a key frame.
    #[error("failed to decode {codec}: {reason}; the sender or the network damaged it, the recorder goes on with the next packet")]
    Damaged { codec: &'static str, reason: String },
    /// The encoder failed on valid input; it must be replaced.
    #[error("failed to encode {codec}: {reason}; if memory was short, raise the recorder's memory limit")]
    Encode { codec: &'static str, reason: String },
    /// The file is no image that is read here. Nothing is kept of it.
    #[error("failed to read the image: {reason}; give it as a whole PNG or JPEG of at most 6 MiB and 4096x2304 pixels")]
    Image { reason: String },
}

impl CodecError {
    pub(crate) fn open(codec: &'static str, reason: impl ToString) -> Self {
        Self::Open { codec, reason: reason.to_string() }
    }
    pub(crate) fn misuse(codec: &'static str, reason: impl ToString) -> Self {
        Self::Misuse { codec, reason: reason.to_string() }
    }
    pub(crate) fn damaged(codec: &'static str, reason: impl ToString) -> Self {
        Self::Damaged { codec, reason: reason.to_string() }
    }
    pub(crate) fn encode(codec: &'static str, reason: impl ToString) -> Self {
        Self::Encode { codec, reason: reason.to_string() }
    }

    pub(crate) fn image(reason: impl ToString) -> Self {
        Self::Image { reason: reason.to_string() }
    }
}
