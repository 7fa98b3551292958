"""Registers of kernels by Mesa's driver for AMD's GPUs, which compiles without a GPU: `radv.py FOLDER FAMILY`.

FOLDER holds SPIR-V and `list.json` of `cargo bench --bench registers`; FAMILY is a name of `RADV_FORCE_FAMILY`. Prints a
Markdown table from VK_KHR_pipeline_executable_properties. Needs libvulkan and the driver (Debian: libvulkan1,
mesa-vulkan-drivers); `VK_ICD_FILENAMES` says where the driver's description is, if not at Debian's place.
"""

import ctypes
import json
import os
import pathlib
import sys
from ctypes import POINTER, byref, c_char, c_char_p, c_float, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p, cast

folder, family = pathlib.Path(sys.argv[1]), sys.argv[2]
os.environ.setdefault("VK_ICD_FILENAMES", "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json")
os.environ["RADV_FORCE_FAMILY"] = family
vulkan = ctypes.CDLL("libvulkan.so.1")


def structure(name, *fields, header=True):
    """A Vulkan structure; most begin with sType and pNext."""
    first = [("sType", c_uint32), ("pNext", c_void_p)] if header else []
    return type(name, (ctypes.Structure,), {"_fields_": first + list(fields)})


Application = structure("Application", ("name", c_char_p), ("version", c_uint32), ("engine", c_char_p),
                        ("engine_version", c_uint32), ("api", c_uint32))
Instance = structure("Instance", ("flags", c_uint32), ("application", POINTER(Application)), ("layers", c_uint32),
                     ("layer_names", c_void_p), ("extensions", c_uint32), ("extension_names", c_void_p))
Queue = structure("Queue", ("flags", c_uint32), ("family", c_uint32), ("count", c_uint32),
                  ("priorities", POINTER(c_float)))
Device = structure("Device", ("flags", c_uint32), ("queues", c_uint32), ("queue", POINTER(Queue)),
                   ("layers", c_uint32), ("layer_names", c_void_p), ("extensions", c_uint32),
                   ("extension_names", POINTER(c_char_p)), ("features", c_void_p))
Executables = structure("Executables", ("enabled", c_uint32))
Module = structure("Module", ("flags", c_uint32), ("size", c_size_t), ("code", c_char_p))
Binding = structure("Binding", ("binding", c_uint32), ("kind", c_uint32), ("count", c_uint32), ("stages", c_uint32),
                    ("samplers", c_void_p), header=False)
SetLayout = structure("SetLayout", ("flags", c_uint32), ("count", c_uint32), ("bindings", POINTER(Binding)))
Layout = structure("Layout", ("flags", c_uint32), ("count", c_uint32), ("sets", POINTER(c_uint64)),
                   ("ranges", c_uint32), ("range", c_void_p))
Stage = structure("Stage", ("flags", c_uint32), ("stage", c_uint32), ("module", c_uint64), ("name", c_char_p),
                  ("specialization", c_void_p))
Pipeline = structure("Pipeline", ("flags", c_uint32), ("stage", Stage), ("layout", c_uint64), ("base", c_uint64),
                     ("base_index", c_int32))
Executable = structure("Executable", ("pipeline", c_uint64), ("index", c_uint32))
Statistic = structure("Statistic", ("name", c_char * 256), ("description", c_char * 256), ("format", c_uint32),
                      ("value", c_uint64))

CAPTURE_STATISTICS, COMPUTE, STORAGE, UNIFORM, EXTENSION = 0x40, 0x20, 7, 6, 1000269000


def done(result, what):
    if result != 0:
        sys.exit(f"{what}: Vulkan says {result}")


application = Application(sType=0, api=(1 << 22) | (1 << 12))
instance, count, device = c_void_p(), c_uint32(1), c_void_p()
done(vulkan.vkCreateInstance(byref(Instance(sType=1, application=ctypes.pointer(application))), None, byref(instance)),
     "an instance")
adapters = (c_void_p * 1)()
vulkan.vkEnumeratePhysicalDevices(instance, byref(count), adapters)
if count.value == 0:
    sys.exit(f"the driver has no family `{family}`")
queue = Queue(sType=2, count=1, priorities=ctypes.pointer(c_float(1)))
enabled = Executables(sType=EXTENSION, enabled=1)
names = (c_char_p * 1)(b"VK_KHR_pipeline_executable_properties")
asked = Device(sType=3, pNext=cast(ctypes.pointer(enabled), c_void_p), queues=1, queue=ctypes.pointer(queue), extensions=1,
               extension_names=names)
done(vulkan.vkCreateDevice(c_void_p(adapters[0]), byref(asked), None, byref(device)), "a device")
vulkan.vkGetDeviceProcAddr.restype = c_void_p
address = vulkan.vkGetDeviceProcAddr(device, b"vkGetPipelineExecutableStatisticsKHR")
statistics_of = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_void_p)(address)


def statistics(kernel):
    """What the driver says of a kernel."""
    code = (folder / kernel["file"]).read_bytes()
    module, sets, layout, pipeline = c_uint64(), (c_uint64 * 1)(), c_uint64(), c_uint64()
    done(vulkan.vkCreateShaderModule(device, byref(Module(sType=16, size=len(code), code=code)), None, byref(module)),
         "a module")
    bindings = [Binding(binding=b, kind=UNIFORM if b >= 8 else STORAGE, count=1, stages=COMPUTE)
                for b in kernel["bindings"]]
    bindings = (Binding * len(bindings))(*bindings)
    done(vulkan.vkCreateDescriptorSetLayout(
        device, byref(SetLayout(sType=32, count=len(bindings), bindings=bindings)), None, sets), "a set")
    done(vulkan.vkCreatePipelineLayout(device, byref(Layout(sType=30, count=1, sets=sets)), None, byref(layout)),
         "a layout")
    stage = Stage(sType=18, stage=COMPUTE, module=module, name=b"main")
    asked = Pipeline(sType=29, flags=CAPTURE_STATISTICS, stage=stage, layout=layout, base_index=-1)
    done(vulkan.vkCreateComputePipelines(device, c_uint64(0), 1, byref(asked), None, byref(pipeline)),
         kernel["kernel"])
    executable, count = Executable(sType=EXTENSION + 3, pipeline=pipeline, index=0), c_uint32()
    done(statistics_of(device, cast(ctypes.pointer(executable), c_void_p), cast(ctypes.pointer(count), c_void_p), None),
         "the number of statistics")
    found = (Statistic * count.value)(*[Statistic(sType=EXTENSION + 4) for _ in range(count.value)])
    done(statistics_of(device, cast(ctypes.pointer(executable), c_void_p), cast(ctypes.pointer(count), c_void_p),
                       cast(found, c_void_p)), "the statistics")
    return {s.name.decode(): s.value for s in found}


COLUMNS = ["VGPRs", "SGPRs", "Spilled VGPRs", "LDS size", "Scratch size", "Subgroups per SIMD", "Instructions",
           "Code size"]
print("| operation | variant | kernel | invocations | " + " | ".join(COLUMNS) + " |")
print("| --- | --- | --- " + "| ---: " * (1 + len(COLUMNS)) + "|")
for kernel in json.loads((folder / "list.json").read_text()):
    known = statistics(kernel)
    variant = (kernel["variant"] or "the only one") + (" *" if kernel["used"] else "")
    cells = [kernel["operation"], variant, f"`{kernel['kernel']}`", kernel["invocations"]]
    print("| " + " | ".join(str(c) for c in cells + [known.get(name, "") for name in COLUMNS]) + " |", flush=True)
