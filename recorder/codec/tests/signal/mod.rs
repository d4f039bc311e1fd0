//! Test tones and what to measure of them. 48 kHz throughout.
#![allow(dead_code)] // each test binary uses its part

use std::f32::consts::TAU;

/// A sine of amplitude 0.5.
pub(crate) fn tone(hertz: f32, samples: usize) -> Vec<f32> {
    (0..samples).map(|i| 0.5 * (TAU * hertz * i as f32 / 48_000.0).sin()).collect()
}

/// Amplitude of the sine of this frequency in the signal.
pub(crate) fn goertzel(signal: &[f32], hertz: f32) -> f32 {
    let (mut re, mut im) = (0.0f64, 0.0f64);
    for (i, x) in signal.iter().enumerate() {
        let angle = std::f64::consts::TAU * f64::from(hertz) * i as f64 / 48_000.0;
        re += f64::from(*x) * angle.cos();
        im += f64::from(*x) * angle.sin();
    }
    (2.0 * re.hypot(im) / signal.len() as f64) as f32
}

/// 1 for the same shape, 0 for unrelated ones.
pub(crate) fn correlation(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE)
}
