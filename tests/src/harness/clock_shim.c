/*
 * A preloaded library that makes a program believe that the machine was suspended or that its wall clock was stepped.
 *
 * CLOCK_SHIM names a file of two 64-bit numbers: nanoseconds to add to boot time and to wall time. The library maps the
 * file, and the test changes the numbers while the program runs. Monotonic time stays as it is, as during a real suspend.
 * A thread watches the numbers and makes the kernel's timers behave accordingly: timers that are due fire, and timers with
 * TFD_TIMER_CANCEL_ON_SET are cancelled when the wall clock is stepped.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define TIMERS 1024
#define SECOND 1000000000LL

static volatile int64_t *offsets; /* boot, wall */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    int clock, flags, cancelled;
    struct itimerspec at; /* as the program set it; zero if not armed */
} timers[TIMERS];

static int64_t offset_of(int clock)
{
    if (!offsets) return 0;
    if (clock == CLOCK_BOOTTIME || clock == CLOCK_BOOTTIME_ALARM) return offsets[0];
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) return offsets[1];
    return 0;
}

static void add(struct timespec *time, int64_t nanos)
{
    int64_t whole = time->tv_sec * SECOND + time->tv_nsec + nanos;
    if (whole < 1) whole = 1;
    time->tv_sec = whole / SECOND;
    time->tv_nsec = whole % SECOND;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int done = syscall(SYS_clock_gettime, clock, time);
    int64_t nanos = offset_of(clock);
    if (done == 0 && nanos) add(time, nanos);
    return done;
}

/* V8 reads the wall clock with it. */
int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

int timerfd_create(int clock, int flags)
{
    int timer = syscall(SYS_timerfd_create, clock, flags);
    if (timer >= 0 && timer < TIMERS) {
        pthread_mutex_lock(&lock);
        memset(&timers[timer], 0, sizeof timers[timer]);
        timers[timer].clock = clock;
        pthread_mutex_unlock(&lock);
    }
    return timer;
}

/* Translates the program's time into the kernel's. */
static int arm(int timer, int flags, struct itimerspec at, struct itimerspec *before)
{
    int armed = at.it_value.tv_sec || at.it_value.tv_nsec;
    if (armed && (flags & TFD_TIMER_ABSTIME)) add(&at.it_value, -offset_of(timers[timer].clock));
    return syscall(SYS_timerfd_settime, timer, flags, &at, before);
}

int timerfd_settime(int timer, int flags, const struct itimerspec *at, struct itimerspec *before)
{
    if (timer < 0 || timer >= TIMERS) return syscall(SYS_timerfd_settime, timer, flags, at, before);
    pthread_mutex_lock(&lock);
    timers[timer].flags = flags;
    timers[timer].at = *at;
    int done = arm(timer, flags, *at, before);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t read(int descriptor, void *into, size_t length)
{
    ssize_t done = syscall(SYS_read, descriptor, into, length);
    if (done == 8 && descriptor >= 0 && descriptor < TIMERS && timers[descriptor].cancelled) {
        timers[descriptor].cancelled = 0;
        errno = ECANCELED;
        return -1;
    }
    return done;
}

static void clocks_changed(int wall_changed)
{
    struct itimerspec now = {.it_value = {.tv_nsec = 1}};
    pthread_mutex_lock(&lock);
    for (int timer = 0; timer < TIMERS; timer++) {
        if (!timers[timer].at.it_value.tv_sec && !timers[timer].at.it_value.tv_nsec) continue;
        if (wall_changed && (timers[timer].flags & TFD_TIMER_CANCEL_ON_SET)) {
            timers[timer].cancelled = 1;
            syscall(SYS_timerfd_settime, timer, TFD_TIMER_ABSTIME, &now, NULL);
        } else if (timers[timer].flags & TFD_TIMER_ABSTIME) {
            arm(timer, timers[timer].flags, timers[timer].at, NULL);
        }
    }
    pthread_mutex_unlock(&lock);
}

static void *watch(void *unused)
{
    (void)unused;
    int64_t boot = offsets[0], wall = offsets[1];
    for (;;) {
        struct timespec pause = {.tv_nsec = SECOND / 200};
        nanosleep(&pause, NULL);
        if (boot != offsets[0] || wall != offsets[1]) {
            int wall_changed = wall != offsets[1];
            boot = offsets[0];
            wall = offsets[1];
            clocks_changed(wall_changed);
        }
    }
    return NULL;
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("CLOCK_SHIM");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED) return;
    offsets = mapped;
    /* The program handles its signals in its own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    pthread_create(&thread, NULL, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
