const std = @import("std");

fn squares(count: u32) u64 {
    var sum: u64 = 0;
    var i: u32 = 0;
    while (i < count) : (i += 1) sum += @as(u64, i) * i;
    return sum;
}

extern fn printf(format: [*:0]const u8, ...) c_int;
extern fn fflush(stream: ?*anyopaque) c_int;

pub fn main() u8 {
    _ = printf("from zig: %llu\n", squares(100_000));
    var names = [_][]const u8{ "walnut", "apple", "mango" };
    std.mem.sort([]const u8, &names, {}, struct {
        fn less(_: void, a: []const u8, b: []const u8) bool {
            return std.mem.lessThan(u8, a, b);
        }
    }.less);
    for (names) |name| _ = printf("%.*s\n", @as(c_int, @intCast(name.len)), name.ptr);
    _ = fflush(null);
    return 7;
}
