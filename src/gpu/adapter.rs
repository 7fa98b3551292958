//! Choosing an adapter: one place, used by every command.
//!
//! The choice is the caller's, else that of `LOWLAND_ADAPTER`, else the best by type: discrete, integrated,
//! virtual, software. `WGPU_BACKEND` (vulkan, metal, dx12, gl) narrows the back ends, as in other wgpu programs; OpenGL
//! is only looked at when it is asked for or when nothing else is there.

use super::error::GpuError;

/// The adapter that is wanted: `pci:0000:01:00.0`, `index:1`, `name:rtx`, `software`, or the best.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdapterChoice {
    /// Discrete before integrated before virtual before software.
    #[default]
    Best,
    /// By PCI bus id.
    Pci(String),
    /// By position in [`list`].
    Index(usize),
    /// By a part of its name, case ignored.
    Name(String),
    /// The first software adapter (lavapipe, SwiftShader, WARP).
    Software,
}

impl std::fmt::Display for AdapterChoice {
    /// As it is written on a command line: parsing gives the choice again.
    ///
    /// ```
    /// use lowland::gpu::AdapterChoice;
    /// for text in ["pci:0000:01:00.0", "index:1", "name:rtx", "software", "best"] {
    ///     assert_eq!(text.parse::<AdapterChoice>().unwrap().to_string(), text);
    /// }
    /// ```
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AdapterChoice::Best => write!(f, "best"),
            AdapterChoice::Pci(id) => write!(f, "pci:{id}"),
            AdapterChoice::Index(n) => write!(f, "index:{n}"),
            AdapterChoice::Name(part) => write!(f, "name:{part}"),
            AdapterChoice::Software => write!(f, "software"),
        }
    }
}

/// A text that chooses no adapter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no adapter choice: write `pci:0000:01:00.0`, `index:1`, `name:part of its name`, `software` or `best`"
)]
pub struct ChoiceError(pub String);

impl std::str::FromStr for AdapterChoice {
    type Err = ChoiceError;

    /// ```
    /// use lowland::gpu::AdapterChoice;
    /// assert_eq!("index:2".parse(), Ok(AdapterChoice::Index(2)));
    /// assert!("gpu0".parse::<AdapterChoice>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let wrong = || ChoiceError(text.into());
        match text.split_once(':') {
            None if text == "software" => Ok(AdapterChoice::Software),
            None if text == "best" => Ok(AdapterChoice::Best),
            Some(("pci", id)) if !id.is_empty() => Ok(AdapterChoice::Pci(id.to_string())),
            Some(("index", n)) => n.parse().map(AdapterChoice::Index).map_err(|_| wrong()),
            Some(("name", part)) if !part.is_empty() => Ok(AdapterChoice::Name(part.to_string())),
            _ => Err(wrong()),
        }
    }
}

/// The variable that chooses an adapter where the caller does not.
pub const ADAPTER_VARIABLE: &str = "LOWLAND_ADAPTER";

/// All adapters in a fixed order, best first within each back end as the system lists them.
pub fn list() -> Vec<wgpu::Adapter> {
    let asked = wgpu::Backends::from_env();
    let of = |backends: wgpu::Backends| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        descriptor.flags = wgpu::InstanceFlags::empty().with_env();
        let instance = wgpu::Instance::new(descriptor);
        pollster::block_on(instance.enumerate_adapters(backends))
    };
    match asked {
        Some(backends) => of(backends),
        None => {
            let found = of(wgpu::Backends::PRIMARY);
            if found.is_empty() { of(wgpu::Backends::GL) } else { found }
        }
    }
}

fn rank(info: &wgpu::AdapterInfo) -> (u8, u8) {
    let by_type = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 4,
        wgpu::DeviceType::IntegratedGpu => 3,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Cpu => 1,
        wgpu::DeviceType::Other => 0,
    };
    (by_type, u8::from(info.backend != wgpu::Backend::Gl))
}

/// The adapter of a choice and the reason, in words.
pub fn select(choice: &AdapterChoice) -> Result<(wgpu::Adapter, String), GpuError> {
    let mut adapters = list();
    let infos: Vec<wgpu::AdapterInfo> = adapters.iter().map(|a| a.get_info()).collect();
    let lower = |s: &str| s.to_lowercase();
    let found = match choice {
        AdapterChoice::Best => (0..infos.len()).rev().max_by_key(|&i| rank(&infos[i])),
        AdapterChoice::Pci(id) => infos.iter().position(|a| lower(&a.device_pci_bus_id) == lower(id)),
        AdapterChoice::Index(n) => (*n < infos.len()).then_some(*n),
        AdapterChoice::Name(part) => infos.iter().position(|a| lower(&a.name).contains(&lower(part))),
        AdapterChoice::Software => infos.iter().position(|a| a.device_type == wgpu::DeviceType::Cpu),
    };
    let Some(index) = found else {
        return Err(none(choice, &infos));
    };
    let reason = match choice {
        AdapterChoice::Best if infos.len() == 1 => "the only adapter".to_string(),
        AdapterChoice::Best => format!("the best of {} by type", infos.len()),
        other => format!("asked for by {other:?}"),
    };
    Ok((adapters.swap_remove(index), reason))
}

fn none(choice: &AdapterChoice, infos: &[wgpu::AdapterInfo]) -> GpuError {
    if infos.is_empty() {
        return GpuError::NoAdapter;
    }
    let there = infos.iter().map(|a| format!("{} ({:?})", a.name, a.backend)).collect();
    GpuError::NoSuchAdapter { choice: choice.to_string(), there }
}

/// Ends the process at once, whatever a driver is at: without the handlers that drivers run at an orderly exit, which
/// wait for their threads or take away what these still use.
pub fn leave(code: i32) -> ! {
    #[cfg(unix)]
    {
        unsafe extern "C" {
            fn _exit(code: std::ffi::c_int) -> !;
        }
        // SAFETY: POSIX's; it takes a number and does not come back.
        unsafe { _exit(code) }
    }
    #[cfg(not(unix))]
    std::process::exit(code)
}

/// Whether this machine shows signs of a GPU that a Vulkan driver could use, so that a software adapter is not the
/// best.
pub fn gpu_in_sight() -> bool {
    let node = |path: &str| std::path::Path::new(path).exists();
    let render = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("renderD");
    ["/dev/nvidia0", "/dev/kfd", "/dev/dxg"].into_iter().any(node)
        || std::fs::read_dir("/dev/dri").is_ok_and(|folder| folder.flatten().any(render))
}
