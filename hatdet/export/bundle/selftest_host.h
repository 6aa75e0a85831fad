/*
 * The self-test on a computer, of outputs that the board (or a runtime) gave:
 *
 *   cc -std=c99 -O2 hdx_selftest_host.c hdx_selftest.c -lm -o selftest && ./selftest outputs.bin
 *
 * outputs.bin: for each picture of the self-test all outputs in the order of the file, raw codes (int16 least
 * significant byte first), one after another. `./selftest --codes input.bin` writes the pictures' input codes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hdx_selftest.h"

typedef struct {
    FILE *file;
    unsigned char *codes;
} hdx_host;

static int hdx_host_run(void *context, const int8_t *input, const void **outputs) {
    hdx_host *host = context;
    size_t at = 0;
    (void)input;
    for (int i = 0; i < HDX_SELFTEST_OUTPUTS; i++) {
        outputs[i] = host->codes + at;
        at += hdx_selftest_bytes(i);
    }
    return fread(host->codes, 1, at, host->file) == at ? 0 : 1;
}

static void hdx_host_print(void *context, const char *line) {
    (void)context;
    puts(line);
}

int main(int argc, char **argv) {
    hdx_host host = {0, 0};
    size_t bytes = 0;
    int result;
    if (argc == 3 && strcmp(argv[1], "--codes") == 0) {
        host.file = fopen(argv[2], "wb");
        if (!host.file) return perror(argv[2]), 9;
        for (int i = 0; i < HDX_SELFTEST_PICTURES; i++)
            fwrite(hdx_selftest_input(i), 1, HDX_SELFTEST_INPUT_BYTES, host.file);
        return fclose(host.file) ? 9 : 0;
    }
    host.file = argc == 2 ? fopen(argv[1], "rb") : 0;
    if (!host.file) return fputs("usage: selftest outputs.bin | selftest --codes input.bin\n", stderr), 9;
    for (int i = 0; i < HDX_SELFTEST_OUTPUTS; i++) bytes += hdx_selftest_bytes(i);
    host.codes = malloc(bytes);
    if (!host.codes) return fclose(host.file), 9;
    result = hdx_selftest(hdx_host_run, hdx_host_print, &host);
    free(host.codes);
    fclose(host.file);
    return result;
}
