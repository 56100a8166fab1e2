// Makes a process map memory that it can write and run: what a debugger, or somebody who broke in, does.
// intruder PID
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

static void check(long result, const char *what) {
  if (result == -1) {
    perror(what);
    exit(1);
  }
}

int main(int count, char **words) {
  struct user_regs_struct before, call;
  pid_t pid = atoi(words[count - 1]);
  check(ptrace(PTRACE_ATTACH, pid, 0, 0), "attach");
  waitpid(pid, 0, __WALL);
  check(ptrace(PTRACE_GETREGS, pid, 0, &before), "read registers");
  long code = ptrace(PTRACE_PEEKTEXT, pid, before.rip, 0);
  check(ptrace(PTRACE_POKETEXT, pid, before.rip, (code & ~0xffffL) | 0x050f), "write a system call");
  call = before;
  call.rax = SYS_mmap;
  call.rdi = 0;
  call.rsi = 4096;
  call.rdx = PROT_READ | PROT_WRITE | PROT_EXEC;
  call.r10 = MAP_PRIVATE | MAP_ANONYMOUS;
  call.r8 = -1;
  call.r9 = 0;
  call.orig_rax = -1;
  check(ptrace(PTRACE_SETREGS, pid, 0, &call), "set registers");
  check(ptrace(PTRACE_SINGLESTEP, pid, 0, 0), "step");
  waitpid(pid, 0, __WALL);
  check(ptrace(PTRACE_GETREGS, pid, 0, &call), "read registers");
  check(ptrace(PTRACE_POKETEXT, pid, before.rip, code), "put the code back");
  check(ptrace(PTRACE_SETREGS, pid, 0, &before), "put the registers back");
  check(ptrace(PTRACE_DETACH, pid, 0, 0), "detach");
  printf("%llx\n", call.rax);
  return (long)call.rax < 0 && (long)call.rax > -4096;
}
