//! All kernels in all variants, through naga to the languages of all backends: SPIR-V (checked by `spirv-val`), MSL,
//! HLSL and GLSL (checked by `glslangValidator`).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use crate::common::adapter::gpu;
use crate::uniform_reads;
use lowland::gpu::{KERNEL_FILES, KernelFile, kernel_file};
use lowland::ops::Variants;
use lowland::selftest;
use naga::back::{glsl, hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

type Constants = Vec<(String, u32)>;

/// Kernel, constants.
type Variant = (&'static str, Constants);

/// Every variant that a file declares, and every one that the operations ask for on any kind of adapter.
fn variants() -> BTreeSet<Variant> {
    let mut all = BTreeSet::new();
    for file in KERNEL_FILES {
        all.insert((file.name, vec![]));
        all.extend(file.variants().unwrap().into_iter().map(|variant| (file.name, variant.constants)));
    }
    let gpu = gpu();
    for variants in Variants::every(gpu.capabilities()) {
        for case in selftest::cases() {
            for dispatch in selftest::dispatches(&gpu, &variants, &case).unwrap() {
                let constants = dispatch.constants.iter().map(|(n, v)| (n.to_string(), *v)).collect();
                all.insert((dispatch.file.name, constants));
            }
        }
    }
    all
}

struct Kernel {
    name: String,
    /// Whether it uses cooperative matrices, which naga 30 writes as SPIR-V and MSL only.
    cooperative: bool,
    /// Whether it stores a lane after another, which only llvmpipe is given.
    uniform: bool,
    module: naga::Module,
    info: ModuleInfo,
}

/// All of them, read once for all tests.
fn kernels(images: bool) -> &'static [Kernel] {
    static PLAIN: LazyLock<Vec<Kernel>> = LazyLock::new(|| read(false));
    static WITH_IMAGES: LazyLock<Vec<Kernel>> = LazyLock::new(|| read(true));
    if images { &WITH_IMAGES } else { &PLAIN }
}

fn read(images: bool) -> Vec<Kernel> {
    let one = |(name, constants): Variant| {
        let file: &KernelFile = kernel_file(name).unwrap();
        let given: Vec<(&str, u32)> = constants.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let text = file.expand(&given, images).unwrap().text;
        let title = format!("{name} {constants:?} images={images}");
        let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{title}: {e}"));
        let info = Validator::new(ValidationFlags::all(), Capabilities::all())
            .validate(&module)
            .unwrap_or_else(|e| panic!("{title}: {}", e.emit_to_string(&text)));
        let cooperative = text.contains("enable wgpu_cooperative_matrix;");
        let uniform = text.contains("var<immediate>");
        Kernel { name: title, cooperative, uniform, module, info }
    };
    variants().into_iter().map(one).collect()
}

/// Whether a program is there to check with; says so when not.
fn have(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        println!("skipped: no {program} on this machine; the text is written, but not checked");
    }
    there
}

/// Runs a checker on so many files at once and gives back what it says of those it refuses. A start takes some longer
/// than a file.
fn refused(
    program: &str,
    arguments: &[&str],
    files: &[(String, Vec<u8>)],
    extension: &str,
    at_once: usize,
) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let check = |files: &[(String, Vec<u8>)]| {
        let paths = (0..files.len()).map(|i| folder.path().join(format!("kernel{i}.{extension}")));
        let paths: Vec<PathBuf> = paths.collect();
        paths.iter().zip(files).for_each(|(path, (_, bytes))| std::fs::write(path, bytes).unwrap());
        Command::new(program).args(arguments).args(&paths).output().unwrap()
    };
    let mut wrong = Vec::new();
    for files in files.chunks(at_once) {
        if check(files).status.success() {
            continue;
        }
        for file in files {
            let output = check(std::slice::from_ref(file));
            if !output.status.success() {
                let said = [output.stdout, output.stderr].concat();
                wrong.push(format!("{}: {}", file.0, String::from_utf8_lossy(&said)));
            }
        }
        assert!(!wrong.is_empty(), "{program} refuses files together that it takes one by one");
    }
    wrong
}

#[test]
fn spirv() {
    let mut files = Vec::new();
    for kernel in kernels(false).iter().chain(kernels(true)) {
        // Cooperative matrices are of SPIR-V 1.6 and later than the spirv-val of Debian 12: written, not checked.
        let lang_version = if kernel.cooperative { (1, 6) } else { (1, 3) };
        let options = spv::Options { lang_version, ..spv::Options::default() };
        let words = spv::write_vec(&kernel.module, &kernel.info, &options, None)
            .unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
        if !kernel.cooperative {
            files.push((kernel.name.clone(), words.iter().flat_map(|w| w.to_le_bytes()).collect()));
        }
    }
    println!("{} variants", files.len());
    assert!(files.len() > 80);
    if have("spirv-val") {
        let wrong = refused("spirv-val", &["--target-env", "vulkan1.1"], &files, "spv", 1);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn metal() {
    for kernel in kernels(false).iter().filter(|k| !k.uniform) {
        let options = msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..msl::Options::default() };
        let (text, _) = msl::write_string(&kernel.module, &kernel.info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
        assert!(text.contains("kernel void"), "{}", kernel.name);
    }
}

#[test]
fn direct3d() {
    for kernel in kernels(false).iter().filter(|k| !k.cooperative && !k.uniform) {
        let options = hlsl::Options {
            shader_model: hlsl::ShaderModel::V6_0,
            fake_missing_bindings: true,
            ..hlsl::Options::default()
        };
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
            .write(&kernel.module, &kernel.info, None)
            .unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
        assert!(text.contains("numthreads"), "{}", kernel.name);
    }
}

#[test]
fn opengl() {
    let (mut plain, mut with_subgroups) = (Vec::new(), Vec::new());
    for kernel in kernels(false).iter().filter(|k| !k.cooperative && !k.uniform) {
        for point in &kernel.module.entry_points {
            let options = glsl::Options {
                version: glsl::Version::Desktop(450),
                writer_flags: glsl::WriterFlags::empty(),
                ..glsl::Options::default()
            };
            let pipeline = glsl::PipelineOptions {
                shader_stage: naga::ShaderStage::Compute,
                entry_point: point.name.clone(),
                multiview: None,
            };
            let mut text = String::new();
            let name = format!("{}:{}", kernel.name, point.name);
            glsl::Writer::new(
                &mut text,
                &kernel.module,
                &kernel.info,
                &options,
                &pipeline,
                naga::proc::BoundsCheckPolicies::default(),
            )
            .and_then(|mut writer| writer.write())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
            let files = if text.contains("subgroup") { &mut with_subgroups } else { &mut plain };
            files.push((name, text.into_bytes()));
        }
    }
    println!("{} programs, {} with subgroups", plain.len(), with_subgroups.len());
    assert!(plain.len() > 50);
    if have("glslangValidator") {
        let wrong = refused("glslangValidator", &["-S", "comp"], &plain, "comp", 64);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// What kills lavapipe of Mesa 26 (`build/uniform_reads.rs`): `u` is read in a loop that no lane of a subgroup may take
/// part in, and again behind it.
const LATE: &str = "
@group(0) @binding(1) var<uniform> u: vec4<u32>;
@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) l: u32) {
    var total = 0.0;
    for (var i = l; i < arrayLength(&out); i += 64u) {
        for (var c = 0u; c < u.x; c++) { total += f32(c * i); }
        total += f32(u.y);
    }
    out[l] = total;
}";

#[test]
fn uniforms_are_read_before_the_loops_that_read_them() {
    let late = |module: &naga::Module| {
        let reads = |p: &naga::EntryPoint| uniform_reads::late_reads(module, &p.function);
        module.entry_points.iter().flat_map(reads).map(|(name, _)| name).collect::<Vec<_>>()
    };
    let read = |text: &str| naga::front::wgsl::parse_str(text).unwrap();
    assert_eq!(late(&read(LATE)), ["u"]);
    assert!(late(&read(&LATE.replace("= 0.0;", "= f32(u.z);"))).is_empty(), "read in front of both loops");
    assert!(late(&read(&LATE.replace("f32(u.y)", "1.0"))).is_empty(), "not read behind the loop");
    assert_eq!(late(&read(&LATE.replace("= 0.0;", "= 0.0; if l > 9u { total += f32(u.z); }"))), ["u"]);
    for images in [false, true] {
        for kernel in kernels(images) {
            assert!(late(&kernel.module).is_empty(), "{}: {:?}", kernel.name, late(&kernel.module));
        }
    }
}
