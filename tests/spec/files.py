"""Which official test scripts are run, by feature; every script of the test suite stands in exactly one list.

Names are paths below the test suite, without `.wast`. A script that appears there and not here fails a test.
"""

from __future__ import annotations

__all__ = ["LATER", "PARTLY", "SUPPORTED"]


def names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Run whole, every command. The scripts of the first row also hold what sign extension, the saturating conversions,
# multi-value, mutable globals and the typed `select` added to the instructions they test.
SUPPORTED: dict[str, tuple[str, ...]] = {
    "core": names("""
        address align block br br_if call call_indirect const conversions endianness exports f32 f32_bitwise
        f32_cmp f64 f64_bitwise f64_cmp fac float_exprs float_literals float_memory float_misc forward func
        func_ptrs i32 i64 if int_exprs int_literals labels left-to-right load local_get local_set local_tee loop
        memory memory_redundancy memory_size memory_size3 memory_trap names nop return select
        skip-stack-guard-page stack start store switch traps type unreachable unreached-invalid unwind
    """),
    "bulk memory": names("""
        bulk memory_copy memory_fill memory_init table_copy
    """),
    "reference types": names("""
        ref_func table_fill table_get table_grow table_set table_size
    """),
    "text format": names("""
        annotations comments id inline-module obsolete-keywords token
    """),
    "binary format": names("""
        binary binary-leb128 custom utf8-custom-section-id utf8-import-field utf8-import-module
        utf8-invalid-encoding
    """),
}

# Run but for the modules that begin at these lines, which need typed function references, garbage collection or
# exceptions (or import from a module that does), and for the commands on those modules. Extended constants are in data,
# elem and global.
PARTLY: dict[str, frozenset[int]] = {
    "data": frozenset({89, 90}),
    "elem": frozenset({87, 178, 182, 315, 448, 453, 465, 470, 482, 487, 499, 504, 539, 544, 556, 561, 573, 578}),
    "global": frozenset({373, 374, 634}),
    "imports": frozenset(
        {
            3, 35, 128, 129, 130, 131, 132, 133, 134, 145, 149, 153, 157, 161, 165, 169, 173, 177, 181, 185,
            189, 193, 197, 201, 205, 210, 222, 239, 243, 247, 251, 255, 291, 292, 293, 304, 308, 312, 316, 320,
            324, 328, 332, 336, 340, 344, 348, 353, 474, 478, 628, 632,
        }
    ),
    "linking": frozenset(
        {
            96, 112, 132, 137, 141, 145, 150, 154, 158, 163, 167, 171, 175, 181, 185, 189, 193, 198, 202, 206,
            210, 215, 219, 223, 227, 232, 236, 240, 244, 249, 253, 257, 261, 426, 434, 441, 445, 450, 454, 459,
            463,
        }
    ),
    "table": frozenset({14, 19, 20, 21, 86, 93}),
    "table_init": frozenset({2272}),
    "unreached-valid": frozenset({1, 82}),
}

# Not run yet, by the proposal they need; of those that need several, by the one that came last.
LATER: dict[str, tuple[str, ...]] = {
    "SIMD": names("""
        simd_address simd_align simd_bit_shift simd_bitwise simd_boolean simd_const simd_conversions simd_f32x4
        simd_f32x4_arith simd_f32x4_cmp simd_f32x4_pmin_pmax simd_f32x4_rounding simd_f64x2 simd_f64x2_arith
        simd_f64x2_cmp simd_f64x2_pmin_pmax simd_f64x2_rounding simd_i16x8_arith simd_i16x8_arith2
        simd_i16x8_cmp simd_i16x8_extadd_pairwise_i8x16 simd_i16x8_extmul_i8x16 simd_i16x8_q15mulr_sat_s
        simd_i16x8_sat_arith simd_i32x4_arith simd_i32x4_arith2 simd_i32x4_cmp simd_i32x4_dot_i16x8
        simd_i32x4_extadd_pairwise_i16x8 simd_i32x4_extmul_i16x8 simd_i32x4_trunc_sat_f32x4
        simd_i32x4_trunc_sat_f64x2 simd_i64x2_arith simd_i64x2_arith2 simd_i64x2_cmp simd_i64x2_extmul_i32x4
        simd_i8x16_arith simd_i8x16_arith2 simd_i8x16_cmp simd_i8x16_sat_arith simd_int_to_int_extend simd_lane
        simd_linking simd_load simd_load16_lane simd_load32_lane simd_load64_lane simd_load8_lane
        simd_load_extend simd_load_splat simd_load_zero simd_memory-multi simd_select simd_splat simd_store
        simd_store16_lane simd_store32_lane simd_store64_lane simd_store8_lane
    """),
    "branch hinting": names("""
        custom/branch_hint
    """),
    "custom annotations": names("""
        custom/custom_annot custom/name_annot
    """),
    "custom descriptors": names("""
        proposals/custom-descriptors/array_new_exact proposals/custom-descriptors/binary
        proposals/custom-descriptors/binary-descriptors proposals/custom-descriptors/br_on_cast
        proposals/custom-descriptors/br_on_cast_desc_eq proposals/custom-descriptors/br_on_cast_desc_eq_fail
        proposals/custom-descriptors/br_on_cast_fail proposals/custom-descriptors/descriptors
        proposals/custom-descriptors/exact proposals/custom-descriptors/exact-casts
        proposals/custom-descriptors/exact-func-import proposals/custom-descriptors/ref_cast_desc_eq
        proposals/custom-descriptors/ref_get_desc proposals/custom-descriptors/struct_new_desc
    """),
    "custom page sizes": names("""
        proposals/custom-page-sizes/binary proposals/custom-page-sizes/custom-page-sizes
        proposals/custom-page-sizes/custom-page-sizes-invalid proposals/custom-page-sizes/memory_max
        proposals/custom-page-sizes/memory_max_i64
    """),
    "exceptions": names("""
        instance throw throw_ref try_table
    """),
    "garbage collection": names("""
        array array_copy array_fill array_init_data array_init_elem array_new_data array_new_elem binary-gc
        br_on_cast br_on_cast_fail extern i31 ref_cast ref_eq ref_null ref_test struct tag type-canon
        type-equivalence type-rec type-subtyping
    """),
    "legacy exceptions": names("""
        legacy/rethrow legacy/throw legacy/try_catch legacy/try_delegate
    """),
    "memory64": names("""
        address64 align64 binary_leb128_64 bulk64 call_indirect64 endianness64 float_memory64 load64 memory64
        memory64-imports memory_copy64 memory_fill64 memory_grow64 memory_init64 memory_redundancy64
        memory_trap64 table64 table_copy64 table_copy_mixed table_fill64 table_get64 table_grow64 table_init64
        table_set64 table_size64
    """),
    "multiple memories": names("""
        address0 address1 align0 binary0 data0 data1 data_drop0 exports0 float_exprs0 float_exprs1 float_memory0
        imports0 imports1 imports2 imports3 imports4 linking0 linking1 linking2 linking3 load0 load1 load2
        memory-multi memory_copy0 memory_copy1 memory_fill0 memory_grow memory_init0 memory_size0 memory_size1
        memory_size2 memory_size_import memory_trap0 memory_trap1 start0 store0 store1 store2 traps0
    """),
    "relaxed SIMD": names("""
        i16x8_relaxed_q15mulr_s i32x4_relaxed_trunc i8x16_relaxed_swizzle relaxed_dot_product relaxed_laneselect
        relaxed_madd_nmadd relaxed_min_max
    """),
    "tail calls": names("""
        return_call return_call_indirect return_call_ref
    """),
    "threads": names("""
        proposals/threads/atomic proposals/threads/exports proposals/threads/imports proposals/threads/memory
    """),
    "typed function references": names("""
        br_on_non_null br_on_null br_table call_ref local_init ref ref_as_non_null ref_is_null table-sub
    """),
    "wide arithmetic": names("""
        proposals/wide-arithmetic/wide-arithmetic
    """),
}
