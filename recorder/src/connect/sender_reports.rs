//! Sender reports, taken where they are decrypted.
//!
//! LiveKit puts an SDES item MID (15, RFC 8843) behind its sender reports; rtc-rtcp 0.21.1 knows items up to 8 and drops the whole
//! compound packet, so no sender report ever reaches the application. This crypto provider delegates everything to the crate's own and
//! looks at each incoming SRTCP packet just after it was authenticated and decrypted: it hands every sender report to a callback, and
//! renames unknown SDES items to NOTE in place, so that the crate's parser takes the rest of the packet.
//!
//! The callback runs on the connection's driver task, between receipt and parsing: take the time there, never block.

use std::cell::RefCell;
use std::sync::Arc;

use recorder_media::SenderReport;
use rtc::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher, CryptoAlgorithm, CryptoError,
    HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey, RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme,
    SigningKey, StreamCipher, StreamCipherAlgorithm, default_provider,
};

/// Called once per sender report of an authenticated packet.
pub(crate) type OnReport = Arc<dyn Fn(SenderReport) + Send + Sync>;

/// RTCP packet types (RFC 3550 section 12.1).
const SENDER_REPORT: u8 = 200;
const SOURCE_DESCRIPTION: u8 = 202;
/// The last SDES item that rtc-rtcp 0.21.1 knows (PRIV), and the harmless one that unknown items become.
const SDES_LAST_KNOWN: u8 = 8;
const SDES_NOTE: u8 = 7;
/// Header of an RTCP packet that SRTCP leaves in the clear.
const CLEAR_HEADER: usize = 8;
/// E flag and SRTCP index behind the ciphertext.
const INDEX: usize = 4;

/// A provider for one peer connection.
///
/// # Errors
/// When the crate was built without a crypto back end.
pub(crate) fn provider(on_report: OnReport) -> Result<Arc<dyn RTCCryptoProvider>, CryptoError> {
    Ok(Arc::new(Tap { inner: default_provider()?, on_report }))
}

struct Tap {
    inner: Arc<dyn RTCCryptoProvider>,
    on_report: OnReport,
}

impl RTCCryptoProvider for Tap {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }
    fn random(&self) -> &dyn RTCRandom {
        self.inner.random()
    }
}

/// Every method of the trait has a default that says "unsupported": all of them have to be delegated here.
impl RTCCrypto for Tap {
    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        let inner = self.inner.crypto().new_aead(algorithm, key)?;
        Ok(Box::new(TapAead { inner, on_report: self.on_report.clone() }))
    }
    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        let inner = self.inner.crypto().new_hmac(algorithm, key)?;
        Ok(if algorithm == HmacAlgorithm::Sha1 { Box::new(TapMac(inner)) } else { inner })
    }
    fn new_stream_cipher(&self, algorithm: StreamCipherAlgorithm, key: &[u8]) -> Result<Box<dyn StreamCipher>, CryptoError> {
        let inner = self.inner.crypto().new_stream_cipher(algorithm, key)?;
        Ok(Box::new(TapStream { inner, on_report: self.on_report.clone() }))
    }
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.inner.crypto().supports(algorithm)
    }
    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.inner.crypto().hash(algorithm, data)
    }
    fn block_encrypt(&self, algorithm: BlockCipherAlgorithm, key: &[u8], block: &mut [u8]) -> Result<(), CryptoError> {
        self.inner.crypto().block_encrypt(algorithm, key, block)
    }
    fn new_cbc(&self, algorithm: CbcAlgorithm, key: &[u8]) -> Result<Box<dyn CbcCipher>, CryptoError> {
        self.inner.crypto().new_cbc(algorithm, key)
    }
    fn start_key_exchange(&self, algorithm: KeyExchangeAlgorithm) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.inner.crypto().start_key_exchange(algorithm)
    }
    fn generate_signing_key(&self, scheme: SignatureScheme) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.inner.crypto().generate_signing_key(scheme)
    }
    fn import_signing_key(&self, scheme: SignatureScheme, pkcs8: &[u8]) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.inner.crypto().import_signing_key(scheme, pkcs8)
    }
    fn verify_signature(&self, scheme: SignatureScheme, key: PublicKey<'_>, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.inner.crypto().verify_signature(scheme, key, message, signature)
    }
}

/// The test by which RTP and RTCP are told apart on one port (RFC 5761 section 4).
fn is_rtcp(bytes: &[u8]) -> bool {
    bytes.len() >= CLEAR_HEADER + INDEX && bytes[0] >> 6 == 2 && (192..=223).contains(&bytes[1])
}

/// AES-GCM: the associated data of SRTCP is the clear header and the index word, 12 bytes (RFC 7714 section 17); DTLS records have 13.
struct TapAead {
    inner: Box<dyn AeadCipher>,
    on_report: OnReport,
}

impl AeadCipher for TapAead {
    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }
    fn seal_in_place(&mut self, nonce: &[u8], aad: &[u8], data: &mut [u8], tag: &mut [u8]) -> Result<(), CryptoError> {
        self.inner.seal_in_place(nonce, aad, data, tag)
    }
    fn open_in_place(&mut self, nonce: &[u8], aad: &[u8], data: &mut [u8], tag: &[u8]) -> Result<(), CryptoError> {
        self.inner.open_in_place(nonce, aad, data, tag)?;
        if aad.len() == CLEAR_HEADER + INDEX && is_rtcp(aad) {
            inspect(&aad[..CLEAR_HEADER], data, &self.on_report);
        }
        Ok(())
    }
}

// AES-CM with HMAC-SHA1: the crate signs header | ciphertext | index, compares the tag, and decrypts, in one call on one thread. So the
// last RTCP message signed on this thread is remembered; keystream applied to exactly its ciphertext is an incoming packet that passed.
// An outgoing packet is encrypted before it is signed and never matches; a forged one is not decrypted.
thread_local! {
    static SIGNED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct TapMac(Box<dyn Mac>);

impl Mac for TapMac {
    fn output_len(&self) -> usize {
        self.0.output_len()
    }
    fn sign(&mut self, input: &[&[u8]], output: &mut [u8]) -> Result<(), CryptoError> {
        if let [message] = input
            && is_rtcp(message)
        {
            SIGNED.with_borrow_mut(|signed| {
                signed.clear();
                signed.extend_from_slice(message);
            });
        }
        self.0.sign(input, output)
    }
    fn verify(&mut self, input: &[&[u8]], expected: &[u8]) -> Result<(), CryptoError> {
        self.0.verify(input, expected)
    }
}

struct TapStream {
    inner: Box<dyn StreamCipher>,
    on_report: OnReport,
}

impl StreamCipher for TapStream {
    fn apply_keystream(&mut self, iv: &[u8], data: &mut [u8]) -> Result<(), CryptoError> {
        let message = SIGNED.with_borrow_mut(|signed| {
            let same = signed.len() == CLEAR_HEADER + data.len() + INDEX && signed[CLEAR_HEADER..][..data.len()] == *data;
            same.then(|| std::mem::take(signed))
        });
        self.inner.apply_keystream(iv, data)?;
        if let Some(message) = message {
            inspect(&message[..CLEAR_HEADER], data, &self.on_report);
        }
        Ok(())
    }
}

/// `head` and `body` are one decrypted compound packet; SDES items in `body` are renamed.
fn inspect(head: &[u8], body: &mut [u8], on_report: &OnReport) {
    let mut packet = [head, &*body].concat();
    walk(&mut packet, &mut |report| on_report(report));
    body.copy_from_slice(&packet[head.len()..]);
}

/// Goes through a compound packet up to the first thing that is malformed. The length never changes.
pub(super) fn walk(mut compound: &mut [u8], on_report: &mut dyn FnMut(SenderReport)) {
    while compound.len() >= 4 && compound[0] >> 6 == 2 {
        let length = 4 * (usize::from(u16::from_be_bytes([compound[2], compound[3]])) + 1);
        if length > compound.len() {
            return;
        }
        let (packet, rest) = compound.split_at_mut(length);
        match packet[1] {
            SENDER_REPORT if length >= 20 => on_report(SenderReport {
                ssrc: word(packet, 4),
                ntp: u64::from(word(packet, 8)) << 32 | u64::from(word(packet, 12)),
                rtp: word(packet, 16),
            }),
            SOURCE_DESCRIPTION => rename_unknown_items(packet),
            _ => {}
        }
        compound = rest;
    }
}

fn word(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

/// RFC 3550 section 6.5: chunks of an SSRC and items (type, length, text), ended by a null and padded to 32 bits.
fn rename_unknown_items(packet: &mut [u8]) {
    let chunks = packet[0] & 31;
    let mut at = 4;
    for _ in 0..chunks {
        at += 4;
        while at + 1 < packet.len() && packet[at] != 0 {
            if packet[at] > SDES_LAST_KNOWN {
                packet[at] = SDES_NOTE;
            }
            at += 2 + usize::from(packet[at + 1]);
        }
        at = (at / 4 + 1) * 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::srtp::context::Context;
    use rtc::srtp::protection_profile::ProtectionProfile;
    use std::sync::Mutex;

    const REPORT: SenderReport = SenderReport { ssrc: 7, ntp: 1 << 32 | 2, rtp: 3 };

    /// A sender report and two SDES chunks: CNAME then MID, and MID then CNAME.
    fn compound() -> Vec<u8> {
        let mut packet = vec![0x80, SENDER_REPORT, 0, 6];
        for field in [7u32, 1, 2, 3, 4, 5] {
            packet.extend(field.to_be_bytes());
        }
        packet.extend([0x82, SOURCE_DESCRIPTION, 0, 7]);
        packet.extend([0, 0, 0, 7, 1, 2, b'a', b'b', 15, 1, b'0', 0]);
        packet.extend([0, 0, 0, 8, 15, 2, b'1', b'2', 1, 3, b'a', b'b', b'c', 0, 0, 0]);
        packet
    }

    #[test]
    fn a_mid_item_no_longer_costs_the_sender_report() {
        let mut packet = compound();
        assert!(rtc::rtcp::packet::unmarshal(&mut &packet[..]).is_err(), "the crate takes MID by now: the renaming can go");
        let mut reports = vec![];
        walk(&mut packet, &mut |report| reports.push(report));
        assert_eq!(reports, [REPORT]);
        assert_eq!(rtc::rtcp::packet::unmarshal(&mut &packet[..]).expect("renamed").len(), 2);
    }

    #[test]
    fn damaged_packets_do_not_panic() {
        let packet = compound();
        for length in 0..packet.len() {
            walk(&mut packet.clone()[..length], &mut |_| {});
        }
        let mut random = 1u32;
        for _ in 0..200_000 {
            let mut damaged = packet.clone();
            for _ in 0..3 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (random >> 8) as usize % damaged.len();
                damaged[at] = (random >> 24) as u8;
            }
            walk(&mut damaged, &mut |_| {});
        }
    }

    fn tapped() -> (Arc<dyn RTCCryptoProvider>, Arc<Mutex<Vec<SenderReport>>>) {
        let seen: Arc<Mutex<Vec<SenderReport>>> = Arc::default();
        let sink = seen.clone();
        let provider = provider(Arc::new(move |report| sink.lock().expect("not poisoned").push(report))).expect("ring");
        (provider, seen)
    }

    #[test]
    fn tapped_on_every_srtp_profile_but_not_when_sent_or_forged() {
        use ProtectionProfile::{AeadAes128Gcm, AeadAes256Gcm, Aes128CmHmacSha1_32, Aes128CmHmacSha1_80};
        for profile in [AeadAes128Gcm, AeadAes256Gcm, Aes128CmHmacSha1_80, Aes128CmHmacSha1_32] {
            let (provider, seen) = tapped();
            let (key, salt) = (vec![1; profile.key_len()], vec![2; profile.salt_len()]);
            let context = || Context::new(&key, &salt, profile, None, None, provider.crypto()).expect("context");
            let (mut sender, mut receiver) = (context(), context());
            let packet = sender.encrypt_rtcp(&compound()).expect("encrypted");
            let mut forged = packet.to_vec();
            forged[20] ^= 1;
            assert!(receiver.decrypt_rtcp(&forged).is_err());
            assert!(seen.lock().expect("not poisoned").is_empty(), "{profile:?}: an outgoing or forged packet was tapped");
            let plain = receiver.decrypt_rtcp(&packet).expect("decrypted");
            assert_eq!(*seen.lock().expect("not poisoned"), [REPORT], "{profile:?}");
            assert!(rtc::rtcp::packet::unmarshal(&mut &plain[..]).is_ok(), "{profile:?}");
        }
    }

    /// rtc-srtp 0.21.1 takes an AES-CM packet whose E flag is 0 without looking at its tag; the tap must not believe it.
    #[test]
    fn an_unencrypted_forgery_is_never_tapped() {
        let (provider, seen) = tapped();
        let profile = ProtectionProfile::Aes128CmHmacSha1_80;
        let (key, salt) = (vec![1; profile.key_len()], vec![2; profile.salt_len()]);
        let mut receiver = Context::new(&key, &salt, profile, None, None, provider.crypto()).expect("context");
        let mut forged = compound();
        forged.extend([0; 4]);
        forged.extend([0; 10]);
        let _ = receiver.decrypt_rtcp(&forged);
        assert!(seen.lock().expect("not poisoned").is_empty());
    }
}
