/* Files and directories under the current directory, through stdio and POSIX. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
    char *names[100];
    int count = 0;
    DIR *dir = opendir(path);
    if (!dir) { printf("opendir %s: failed\n", path); return; }
    for (struct dirent *entry; (entry = readdir(dir)) && count < 100;)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) names[count++] = strdup(entry->d_name);
    closedir(dir);
    qsort(names, count, sizeof *names, compare);
    printf("%s:", path);
    for (int i = 0; i < count; i++) { printf(" %s", names[i]); free(names[i]); }
    printf("\n");
}

int main(void) {
    char buffer[256];
    struct stat st;
    FILE *f = fopen("a.txt", "w+");
    for (int i = 0; i < 100; i++) fprintf(f, "line %d\n", i);
    rewind(f);
    int lines = 0;
    while (fgets(buffer, sizeof buffer, f)) lines++;
    printf("%d lines, last %s", lines, buffer);
    printf("position %ld\n", ftell(f));
    fseek(f, -8, SEEK_END);
    printf("%s", fgets(buffer, sizeof buffer, f));
    fclose(f);
    f = fopen("a.txt", "a");
    fputs("appended\n", f);
    fclose(f);
    stat("a.txt", &st);
    printf("size %lld, regular %d\n", (long long)st.st_size, S_ISREG(st.st_mode) != 0);

    printf("mkdir %d", mkdir("dir", 0777));
    printf(" %d\n", mkdir("dir/sub", 0777));
    for (int i = 0; i < 20; i++) {
        snprintf(buffer, sizeof buffer, "dir/file%02d", i);
        f = fopen(buffer, "w");
        fprintf(f, "%d", i);
        fclose(f);
    }
    list("dir");
    list(".");
    printf("rename %d\n", rename("dir/file07", "dir/sub/moved"));
    printf("unlink %d\n", unlink("dir/file08"));
    printf("rmdir %d", rmdir("dir"));
    printf(" %s\n", errno == ENOTEMPTY ? "not empty" : "?");
    list("dir/sub");
    printf("symlink %d\n", symlink("sub/moved", "dir/link"));
    int n = readlink("dir/link", buffer, sizeof buffer);
    printf("readlink %.*s\n", n, buffer);
    f = fopen("dir/link", "r");
    printf("through the link: %s\n", f ? fgets(buffer, sizeof buffer, f) : "failed");
    fclose(f);
    printf("link %d\n", link("a.txt", "b.txt"));
    stat("b.txt", &st);
    printf("links %d\n", (int)st.st_nlink);
    lstat("dir/link", &st);
    printf("is link %d\n", S_ISLNK(st.st_mode) != 0);

    int fd = open("c.bin", O_RDWR | O_CREAT | O_TRUNC, 0666);
    printf("pwrite %d\n", (int)pwrite(fd, "0123456789", 10, 5));
    printf("pread %d", (int)pread(fd, buffer, 8, 3));
    printf(" %d %d %c\n", buffer[0], buffer[1], buffer[2]);
    printf("ftruncate %d", ftruncate(fd, 7));
    printf(", lseek %d\n", (int)lseek(fd, 0, SEEK_END));
    printf("fsync %d\n", fsync(fd));
    struct timespec times[2] = {{1000, 500}, {2000, 700}};
    futimens(fd, times);
    fstat(fd, &st);
    printf("times %lld %ld %lld %ld\n", (long long)st.st_atim.tv_sec, (long)st.st_atim.tv_nsec,
           (long long)st.st_mtim.tv_sec, (long)st.st_mtim.tv_nsec);
    close(fd);
    printf("again %d\n", open("c.bin", O_WRONLY | O_CREAT | O_EXCL, 0666));
    for (int i = 0; i < 20; i++) {
        snprintf(buffer, sizeof buffer, "dir/file%02d", i);
        unlink(buffer);
    }
    printf("unlink %d", unlink("dir/link"));
    printf(" %d", unlink("dir/sub/moved"));
    printf(" %d", rmdir("dir/sub"));
    printf(" %d\n", rmdir("dir"));
    list(".");
    return 0;
}
