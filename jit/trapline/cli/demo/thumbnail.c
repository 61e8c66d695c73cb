// A thumbnail of a QOI image (https://qoiformat.org/qoi-specification.pdf), the program that `trapline demo` runs.
//
// It has three bugs, of the kinds that real decoders have had. Each is marked "Bug:".
// build.py beside this file makes thumbnail.wasm of it.

typedef unsigned char byte;
typedef unsigned int word;

enum { HEADER_BYTES = 14, PAGE_BYTES = 65536, MOST_PIXELS = 1 << 24 };
enum status { DONE = 0, NOT_QOI = 1, TOO_LARGE = 2 };

struct image {
    word width, height;
    word channels;     // 3: RGB, 4: RGBA
    word colour_space; // 0: sRGB, 1: all channels linear
    word *pixels;      // RGBA, a word each, in rows
};

extern byte __heap_base;
static byte *heap = &__heap_base;
static byte *input;
static word input_bytes;
static word *output;

struct image image;

// Room that is never given back; the memory grows as it must.
static void *allocate(word bytes) {
    byte *start = heap;
    heap += (bytes + 15) & ~15u;
    word pages = ((word)heap + PAGE_BYTES - 1) / PAGE_BYTES;
    word have = __builtin_wasm_memory_size(0);
    if (pages > have && __builtin_wasm_memory_grow(0, pages - have) == (word)-1)
        __builtin_trap();
    return start;
}

static word big_endian(const byte *at) {
    return (word)at[0] << 24 | (word)at[1] << 16 | (word)at[2] << 8 | at[3];
}

__attribute__((noinline))
static enum status read_header(struct image *image) {
    if (input_bytes < HEADER_BYTES || big_endian(input) != 0x716f6966)
        return NOT_QOI;
    image->width = big_endian(input + 4);
    image->height = big_endian(input + 8);
    image->channels = input[12];
    image->colour_space = input[13];
    if ((unsigned long long)image->width * image->height > MOST_PIXELS)
        return TOO_LARGE;
    return DONE;
}

__attribute__((noinline))
static void put_run(word *pixels, word at, word run, word colour) {
    for (word i = 0; i < run; i++)
        pixels[at + i] = colour;
}

__attribute__((noinline))
static void decode(struct image *image) {
    const byte *in = input + HEADER_BYTES;
    const byte *stop = input + input_bytes;
    word count = image->width * image->height;
    word seen[64] = {0};
    byte r = 0, g = 0, b = 0, a = 255;
    for (word at = 0; at < count && in < stop;) {
        byte tag = *in++;
        word run = 1;
        if (tag == 0xfe || tag == 0xff) {
            r = *in++;
            g = *in++;
            b = *in++;
            if (tag == 0xff)
                a = *in++;
        } else if (tag < 0x40) {
            word colour = seen[tag];
            r = colour, g = colour >> 8, b = colour >> 16, a = colour >> 24;
        } else if (tag < 0x80) {
            r += (tag >> 4 & 3) - 2;
            g += (tag >> 2 & 3) - 2;
            b += (tag & 3) - 2;
        } else if (tag < 0xc0) {
            byte more = *in++;
            int green = (tag & 63) - 32;
            r += green + (more >> 4) - 8;
            g += green;
            b += green + (more & 15) - 8;
        } else {
            run = (tag & 63) + 1;
        }
        word colour = r | (word)g << 8 | (word)b << 16 | (word)a << 24;
        seen[(r * 3 + g * 5 + b * 7 + a * 11) % 64] = colour;
        put_run(image->pixels, at, run, colour);
        at += run;
    }
}

static void from_srgb(struct image *image) {
    (void)image; // what a screen expects
}

static void from_linear(struct image *image) {
    for (word at = 0; at < image->width * image->height; at++) {
        byte *channel = (byte *)&image->pixels[at];
        for (int i = 0; i < 3; i++)
            channel[i] = channel[i] < 64 ? channel[i] * 2 : 85 + channel[i] * 2 / 3;
    }
}

typedef void converter(struct image *);
converter *const converters[] = {from_srgb, from_linear};

__attribute__((noinline))
static void convert(struct image *image) {
    // Bug: the byte comes from the file, and nobody has compared it with 2.
    converters[image->colour_space](image);
}

__attribute__((noinline))
static word mean(word sum, word count) {
    return sum / count;
}

__attribute__((noinline))
static word average(const struct image *image, word left, word top, word box_width, word box_height) {
    word r = 0, g = 0, b = 0, count = 0;
    for (word y = top; y < top + box_height && y < image->height; y++)
        for (word x = left; x < left + box_width && x < image->width; x++) {
            word colour = image->pixels[y * image->width + x];
            r += colour & 255;
            g += colour >> 8 & 255;
            b += colour >> 16 & 255;
            count++;
        }
    // Bug: a box that begins behind the right edge holds no pixels.
    return mean(r, count) | mean(g, count) << 8 | mean(b, count) << 16;
}

static void shrink(const struct image *image, word columns, word rows) {
    word box_width = (image->width + columns - 1) / columns;
    word box_height = (image->height + rows - 1) / rows;
    for (word row = 0; row < rows; row++)
        for (word column = 0; column < columns; column++)
            output[row * columns + column] =
                average(image, column * box_width, row * box_height, box_width, box_height);
}

// Room for a file of so many bytes; the caller writes it there.
__attribute__((export_name("reserve")))
byte *reserve(word bytes) {
    heap = &__heap_base;
    input_bytes = bytes;
    return input = allocate(bytes);
}

// Where the thumbnail is: a word a pixel, in rows.
__attribute__((export_name("result")))
word *result(void) {
    return output;
}

__attribute__((export_name("thumbnail")))
enum status thumbnail(word columns, word rows) {
    output = allocate(columns * rows * sizeof *output);
    enum status status = read_header(&image);
    if (status != DONE)
        return status;
    // Bug: decode() writes four bytes a pixel, whatever the file says.
    image.pixels = allocate(image.width * image.height * image.channels);
    decode(&image);
    convert(&image);
    shrink(&image, columns, rows);
    return DONE;
}
