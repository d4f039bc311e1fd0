//! The picture of a composite: a canvas, and who is where on it.

use super::defaults;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who is where in the one picture of `mode: Composite`. A change replaces the whole layout: a field that is left out has its default again.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.type == 'Custom') == has(self.regions)")
        .message("spec.layout: regions and type Custom belong together: set both or neither"),
    validation = Rule::new("!has(self.maxResolutionUID) || self.type == 'Vertical'")
        .message("spec.layout.maxResolutionUID needs type Vertical"),
    validation = Rule::new("!has(self.regions) || self.regions.all(r, r.left + r.width <= self.canvas.width && r.top + r.height <= self.canvas.height)")
        .message("spec.layout.regions must lie on the canvas: left + width and top + height may not exceed its width and height"),
    validation = Rule::new("!has(self.regions) || self.regions.all(r, !has(r.uid) || self.regions.exists_one(other, has(other.uid) && other.uid == r.uid))")
        .message("spec.layout.regions may name a uid once: remove the other region"),
    validation = Rule::new("!has(self.userImages) || self.userImages.all(i, self.userImages.exists_one(other, other.uid == i.uid))")
        .message("spec.layout.userImages may name a uid once: remove the other image"),
    validation = Rule::new("!has(self.watermarks) || self.watermarks.all(w, w.left + w.width <= self.canvas.width && w.top + w.height <= self.canvas.height)")
        .message("spec.layout.watermarks must lie on the canvas: left + width and top + height may not exceed its width and height")
)]
pub struct Layout {
    /// Floating: the first fills the canvas, the others in small on it. BestFit: all of one size. Vertical: one large, the others in columns beside.
    /// Custom: by `regions`. Default: BestFit.
    #[serde(rename = "type", default)]
    pub kind: LayoutType,
    /// Size, rate and colour of the picture.
    #[serde(default)]
    pub canvas: Canvas,
    /// Who is large in Vertical: an identity, or a numeric uid written as a string; <uid>#screen is their screen share. Default: the first screen share, or nobody.
    #[serde(rename = "maxResolutionUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262))]
    pub max_resolution_uid: Option<String>,
    /// Places of Custom, 1..17.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 17), extend("x-kubernetes-list-type" = "atomic"))]
    pub regions: Option<Vec<Region>>,
    /// Images of people, shown while their camera shows nothing; before `canvas.defaultUserImageURL`. At most 50. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "atomic"))]
    pub user_images: Vec<UserImage>,
    /// Above everybody, the later ones above the earlier; at most 6. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6), extend("x-kubernetes-list-type" = "atomic"))]
    pub watermarks: Vec<Watermark>,
    /// Names in the picture. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captions: Option<Captions>,
}

/// Above the picture, in pixels of the canvas.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.type == 'Image') == has(self.url)")
        .message("spec.layout.watermarks: url belongs to type Image: set both or neither"),
    validation = Rule::new("(self.type == 'Text') == has(self.text)")
        .message("spec.layout.watermarks: text belongs to type Text: set both or neither")
)]
pub struct Watermark {
    /// Image: of `url`, whole, in the middle of its place; transparency of a PNG holds. Text: `text`. Timestamp: the time of the picture, UTC, like
    /// 2026-11-22 14:30:35Z. Texts are white with a dark edge, as high as the place, from its left. Default: Image.
    #[serde(rename = "type", default)]
    pub kind: WatermarkType,
    /// http(s) address of a PNG or JPEG of at most 6 MiB and 9 megapixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/?#@]+([/?#]\S*)?$"))]
    pub url: Option<String>,
    /// One line of 1..128 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub text: Option<String>,
    /// From the left edge, 0..1918, even.
    #[schemars(range(min = 0, max = 1918), extend("multipleOf" = 2))]
    pub left: i32,
    /// From the upper edge, 0..1918, even.
    #[schemars(range(min = 0, max = 1918), extend("multipleOf" = 2))]
    pub top: i32,
    /// Width, 16..1920, even.
    #[schemars(range(min = 16, max = 1920), extend("multipleOf" = 2))]
    pub width: i32,
    /// Height, 16..1920, even.
    #[schemars(range(min = 16, max = 1920), extend("multipleOf" = 2))]
    pub height: i32,
    /// 0 is invisible, 100 covers what is beneath. Default: 100.
    #[serde(default = "defaults::opacity_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub opacity_percent: i32,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatermarkType {
    #[default]
    Image,
    Text,
    Timestamp,
}

/// The name of who has it at the bottom of each place.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Captions {
    /// Default: true.
    #[serde(default = "defaults::enabled")]
    pub enabled: bool,
    /// Height in hundredths of the canvas' height, 2..20; at most half of the place. Default: 4.
    #[serde(default = "defaults::caption_percent")]
    #[schemars(range(min = 2, max = 20))]
    pub size_percent: i32,
}

/// Of one person.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UserImage {
    /// Whose: an identity, or a numeric uid written as a string.
    #[schemars(length(min = 1, max = 255))]
    pub uid: String,
    /// http(s) address of a PNG or JPEG of at most 6 MiB and 9 megapixels.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/?#@]+([/?#]\S*)?$"))]
    pub url: String,
    /// Crop: fills the place, from the image's centre. Fit: the whole image, with bars. Default: Crop.
    #[serde(default)]
    pub fit: Fit,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayoutType {
    Floating,
    #[default]
    BestFit,
    Vertical,
    Custom,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.width * self.height <= 2073600")
    .message("spec.layout.canvas may have at most 1920 x 1080 pixels: make it smaller"))]
pub struct Canvas {
    /// Width in pixels, 64..1920, even. Default: 1280.
    #[serde(default = "defaults::width")]
    #[schemars(range(min = 64, max = 1920), extend("multipleOf" = 2))]
    pub width: i32,
    /// Height in pixels, 64..1920, even. Default: 720.
    #[serde(default = "defaults::height")]
    #[schemars(range(min = 64, max = 1920), extend("multipleOf" = 2))]
    pub height: i32,
    /// Pictures per second: 1, 7, 10, 15, 24, 30 or 60. Default: 30.
    #[serde(default = "defaults::frames_per_second")]
    #[schemars(extend("enum" = [1, 7, 10, 15, 24, 30, 60]))]
    pub frames_per_second: i32,
    /// 1000 bit/s of the picture, 50..10000. Default: 2000.
    #[serde(default = "defaults::video_kbps")]
    #[schemars(range(min = 50, max = 10000))]
    pub video_kbps: i32,
    /// What is behind people, and where one without a picture would be: #RRGGBB. Default: #000000.
    #[serde(default = "defaults::background_color")]
    #[schemars(length(min = 7, max = 7), regex(pattern = r"^#[0-9A-Fa-f]{6}$"))]
    pub background_color: String,
    /// Fills the canvas behind people: http(s) address of a PNG or JPEG of at most 6 MiB and 9 megapixels. Default: backgroundColor alone.
    #[serde(rename = "backgroundImageURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/?#@]+([/?#]\S*)?$"))]
    pub background_image_url: Option<String>,
    /// In the place of whoever shows no picture and has no image of their own: http(s) address of a PNG or JPEG of at most 6 MiB and 9 megapixels. Default: the background.
    #[serde(rename = "defaultUserImageURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/?#@]+([/?#]\S*)?$"))]
    pub default_user_image_url: Option<String>,
}

impl Default for Canvas {
    fn default() -> Self {
        Self {
            width: defaults::width(),
            height: defaults::height(),
            frames_per_second: defaults::frames_per_second(),
            video_kbps: defaults::video_kbps(),
            background_color: defaults::background_color(),
            background_image_url: None,
            default_user_image_url: None,
        }
    }
}

// Not x and y: to YAML 1.1, which kubectl reads, y is a boolean.
/// A place on the canvas, in its pixels.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Region {
    /// Whose: an identity, or a numeric uid written as a string; <uid>#screen is their screen share. Default: whoever joined first of those that no region names.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262))]
    pub uid: Option<String>,
    /// From the left edge, 0..1918, even.
    #[schemars(range(min = 0, max = 1918), extend("multipleOf" = 2))]
    pub left: i32,
    /// From the upper edge, 0..1918, even.
    #[schemars(range(min = 0, max = 1918), extend("multipleOf" = 2))]
    pub top: i32,
    /// Width, 16..1920, even.
    #[schemars(range(min = 16, max = 1920), extend("multipleOf" = 2))]
    pub width: i32,
    /// Height, 16..1920, even.
    #[schemars(range(min = 16, max = 1920), extend("multipleOf" = 2))]
    pub height: i32,
    /// 0 is invisible, 100 covers what is beneath. Default: 100.
    #[serde(default = "defaults::opacity_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub opacity_percent: i32,
    /// Crop: fills the region, from the picture's centre. Fit: the whole picture, with bars. Default: Crop.
    #[serde(default)]
    pub fit: Fit,
    /// What is higher covers what is lower, -1000..1000; of the same, the later one covers. Default: 0.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub z_order: i32,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    #[default]
    Crop,
    Fit,
}
