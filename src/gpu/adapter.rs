//! Choosing an adapter: one place, used by every command.
//!
//! The choice comes from `--adapter`, else from `LOWLAND_ADAPTER`, else the best by type: discrete, integrated, virtual,
//! software. `WGPU_BACKEND` (vulkan, metal, dx12, gl) narrows the back ends, as in other wgpu programs; OpenGL is only
//! looked at when it is asked for or when nothing else is there.

use super::error::GpuError;

/// Which adapter is wanted: `pci:0000:01:00.0`, `index:1`, `name:rtx`, `software`, or the best.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdapterChoice {
    /// Discrete before integrated before virtual before software.
    #[default]
    Best,
    /// By PCI bus id, as `lowland doctor` prints it.
    Pci(String),
    /// By position in the list of `lowland doctor`.
    Index(usize),
    /// By a part of its name, case ignored.
    Name(String),
    /// The first software adapter (lavapipe, SwiftShader, WARP).
    Software,
}

impl std::str::FromStr for AdapterChoice {
    type Err = String;

    /// ```
    /// use lowland::gpu::AdapterChoice;
    /// assert_eq!("index:2".parse(), Ok(AdapterChoice::Index(2)));
    /// assert!("gpu0".parse::<AdapterChoice>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no adapter choice: write `pci:0000:01:00.0`, `index:1`, `name:part of its name`, `software` or `best`"
            )
        };
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

/// The variable that chooses an adapter where no flag does.
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
    let advice = if infos.is_empty() {
        "Install a Vulkan driver for your GPU, or a software one: on Debian and Ubuntu `sudo apt install \
         mesa-vulkan-drivers libvulkan1` (`make demo` does it)."
            .to_string()
    } else {
        let names: Vec<String> =
            infos.iter().enumerate().map(|(i, a)| format!("index:{i} {} ({:?})", a.name, a.backend)).collect();
        format!("There are: {}. `lowland doctor` shows more.", names.join("; "))
    };
    let reason = if infos.is_empty() { "none was found".to_string() } else { format!("none fits {choice:?}") };
    GpuError::NoAdapter { reason, advice }
}

/// Settings of the process that drivers read; call it first in `main`, before there is a second thread. What is set
/// already stays.
///
/// * Mesa's device-selection layer prints to standard error where it finds no display; adapters are chosen here.
/// * lavapipe runs subgroups of 8 lanes unless told otherwise; with AVX-512 16 lanes are faster (`docs/performance.md`).
/// * Mesa's shader cache takes code of one width for that of another, so each width gets a folder of its own.
pub fn prepare_process() {
    let set = |name: &str, value: &std::ffi::OsStr| {
        // SAFETY: no other thread exists yet that could read the environment.
        unsafe { std::env::set_var(name, value) }
    };
    if std::env::var_os("NODEVICE_SELECT").is_none() {
        set("NODEVICE_SELECT", "1".as_ref());
    }
    const WIDTH: &str = "LP_NATIVE_VECTOR_WIDTH";
    const CACHE: &str = "MESA_SHADER_CACHE_DIR";
    let given = std::env::var_os(WIDTH);
    let Some(width) = given.clone().or_else(|| wide_vectors().then(|| "512".into())) else { return };
    if std::env::var_os(CACHE).is_some() {
        // A folder that was chosen for the width that was chosen.
        return;
    }
    let Some(folder) = cache_folder() else { return };
    let folder = folder.join(format!("mesa-{}", width.to_string_lossy()));
    if std::fs::create_dir_all(&folder).is_ok() {
        set(CACHE, folder.as_os_str());
        if given.is_none() {
            set(WIDTH, &width);
        }
    }
}

/// Ends the process at once, whatever a driver is at: without the handlers that drivers run at an orderly exit, which wait for
/// their threads or take away what these still use.
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

/// Whether lavapipe can run 512-bit vectors here.
fn wide_vectors() -> bool {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    {
        std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512dq")
            && std::is_x86_feature_detected!("avx512vl")
    }
    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    false
}

/// Where this program may keep what can be made again.
pub(crate) fn cache_folder() -> Option<std::path::PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) if !folder.is_empty() => folder.into(),
        _ => std::path::PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
    };
    Some(base.join("lowland"))
}
