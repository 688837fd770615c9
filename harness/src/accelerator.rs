//! The sensors of a GPU: clock, temperature, what holds the clock down, memory in use.
//!
//! They are read through NVML, the library that comes with NVIDIA's driver. It is loaded when a
//! backend runs on a CUDA device; without it the figures are missing, and nothing else.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use touchstone_kernels::BackendId;

/// Why a clock is lower than it could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Throttle {
    /// The power limit: the ordinary state of a device under dense arithmetic.
    PowerCap,
    /// Somebody has set the clock.
    ClockSetting,
    /// Another device of its group is slower.
    SyncBoost,
    /// Too hot.
    Thermal,
    /// The hardware protects itself: heat, power or its supply.
    Hardware,
}

touchstone_kernels::named_enum!(Throttle, "throttle", {
    Throttle::PowerCap => "power cap",
    Throttle::ClockSetting => "clock setting",
    Throttle::SyncBoost => "sync boost",
    Throttle::Thermal => "thermal",
    Throttle::Hardware => "hardware slowdown",
});

impl Throttle {
    /// Whether it is a disturbance, which passes, and not a property of the device.
    pub fn is_disturbance(self) -> bool {
        matches!(self, Throttle::Thermal | Throttle::Hardware)
    }
}

/// What the sensors say at one moment; nothing where they do not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Clock of the multiprocessors in MHz.
    pub clock_mhz: Option<f64>,
    /// In degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Bytes in use on the device, by whomever.
    pub memory: Option<u64>,
    /// What holds the clock down.
    pub throttle: Vec<Throttle>,
}

/// Something that can be read.
pub trait Sensors: fmt::Debug + Send + Sync {
    /// Now.
    fn read(&self) -> Reading;

    /// The name of the device, such as `NVIDIA H200`.
    fn name(&self) -> Option<String> {
        None
    }
}

/// The sensors of the device that a backend runs on, if it has any.
pub fn sensors_of(backend: &BackendId) -> Option<Arc<dyn Sensors>> {
    let ordinal = backend.place().strip_prefix("cuda:")?.parse().ok()?;
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let device = name_of(ordinal, visible.as_deref())?;
    // The second name is the one that is always there; the first needs the development package.
    let nvml = Nvml::init().or_else(|_| Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init());
    Some(Arc::new(Gpu { nvml: nvml.ok()?, device }))
}

/// How NVML knows a device.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    /// Its number in the order of the bus, which is also CUDA's where workers run.
    Index(u32),
    /// Its unique name.
    Uuid(String),
}

/// The device with a number among those that CUDA is allowed to see.
fn name_of(ordinal: usize, visible: Option<&str>) -> Option<Name> {
    let Some(visible) = visible else { return Some(Name::Index(u32::try_from(ordinal).ok()?)) };
    let entry = visible.split(',').map(str::trim).nth(ordinal).filter(|entry| !entry.is_empty())?;
    Some(entry.parse().map_or_else(|_| Name::Uuid(entry.into()), Name::Index))
}

#[derive(Debug)]
struct Gpu {
    nvml: Nvml,
    device: Name,
}

impl Gpu {
    fn device(&self) -> Option<nvml_wrapper::Device<'_>> {
        match &self.device {
            Name::Index(index) => self.nvml.device_by_index(*index),
            Name::Uuid(uuid) => self.nvml.device_by_uuid(uuid.as_str()),
        }
        .ok()
    }
}

impl Sensors for Gpu {
    fn name(&self) -> Option<String> {
        self.device()?.name().ok()
    }

    fn read(&self) -> Reading {
        let Some(device) = self.device() else { return Reading::default() };
        Reading {
            clock_mhz: device.clock_info(Clock::SM).ok().map(f64::from),
            temperature_c: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            memory: device.memory_info().ok().map(|memory| memory.used),
            throttle: device.current_throttle_reasons().map(throttle).unwrap_or_default(),
        }
    }
}

fn throttle(reasons: ThrottleReasons) -> Vec<Throttle> {
    let meanings = [
        (ThrottleReasons::SW_POWER_CAP, Throttle::PowerCap),
        (
            ThrottleReasons::APPLICATIONS_CLOCKS_SETTING | ThrottleReasons::DISPLAY_CLOCK_SETTING,
            Throttle::ClockSetting,
        ),
        (ThrottleReasons::SYNC_BOOST, Throttle::SyncBoost),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN | ThrottleReasons::HW_THERMAL_SLOWDOWN, Throttle::Thermal),
        (ThrottleReasons::HW_SLOWDOWN | ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, Throttle::Hardware),
    ];
    meanings.into_iter().filter(|(bits, _)| reasons.intersects(*bits)).map(|(_, why)| why).collect()
}

/// What the sensors said over the slices of one measurement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceHealth {
    /// The lowest clock in MHz.
    pub clock_mhz: Option<f64>,
    /// The highest temperature in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// The most memory in use, in bytes.
    pub memory: Option<u64>,
    /// All that held the clock down.
    pub throttle: BTreeSet<Throttle>,
}

impl DeviceHealth {
    /// Takes a reading into account.
    pub fn note(&mut self, reading: &Reading) {
        let either = |a: Option<f64>, b: Option<f64>, choose: fn(f64, f64) -> f64| match (a, b) {
            (Some(a), Some(b)) => Some(choose(a, b)),
            (a, b) => a.or(b),
        };
        self.clock_mhz = either(self.clock_mhz, reading.clock_mhz, f64::min);
        self.temperature_c = either(self.temperature_c, reading.temperature_c, f64::max);
        self.memory = self.memory.max(reading.memory);
        self.throttle.extend(&reading.throttle);
    }

    /// What held the clock down, in words.
    pub fn throttle_words(&self) -> String {
        self.throttle.iter().map(Throttle::to_string).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_cuda_sees_them() {
        assert_eq!(name_of(1, None), Some(Name::Index(1)));
        assert_eq!(name_of(0, Some("3, 1")), Some(Name::Index(3)));
        assert_eq!(name_of(1, Some("3, GPU-8c1b")), Some(Name::Uuid("GPU-8c1b".into())));
        assert_eq!(name_of(2, Some("3,1")), None, "hidden");
        assert_eq!(name_of(0, Some("")), None, "all are hidden");
        for cpu in ["naive", "simd/avx2", "libtorch/cpu", "candle/metal", "libtorch/cpu/math"] {
            assert!(sensors_of(&cpu.parse().unwrap()).is_none(), "{cpu}");
        }
    }

    #[test]
    fn the_worst_of_all_readings_counts() {
        let hot = ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_THERMAL_SLOWDOWN;
        assert_eq!(throttle(hot), [Throttle::PowerCap, Throttle::Thermal]);
        assert_eq!(throttle(ThrottleReasons::GPU_IDLE), []);
        assert!(throttle(hot).iter().any(|why| why.is_disturbance()));
        assert!(!Throttle::PowerCap.is_disturbance());

        let mut health = DeviceHealth::default();
        health.note(&Reading::default());
        assert_eq!(health, DeviceHealth::default());
        let reading = |clock, temperature, memory, throttle: &[Throttle]| Reading {
            clock_mhz: Some(clock),
            temperature_c: Some(temperature),
            memory: Some(memory),
            throttle: throttle.into(),
        };
        health.note(&reading(1980.0, 40.0, 7, &[Throttle::PowerCap]));
        health.note(&reading(1700.0, 60.0, 5, &[Throttle::Thermal, Throttle::PowerCap]));
        health.note(&reading(1800.0, 50.0, 6, &[]));
        assert_eq!(
            (health.clock_mhz, health.temperature_c, health.memory),
            (Some(1700.0), Some(60.0), Some(7))
        );
        assert_eq!(health.throttle_words(), "power cap, thermal");
    }
}
