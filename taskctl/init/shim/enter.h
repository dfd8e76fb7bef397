/* A further process in a container that runs: what `runc exec` is to runc.
 *
 *   shim --enter DIR FD tty|pipes COMMAND [ARGUMENT ...]
 *
 * runs the command in the container of DIR, with the environment, working directory and privileges
 * that its spec gives. Standard input, output and error are the caller's; with `tty` they are a
 * terminal, which becomes the command's own. The command's exit status is returned, 128 + n for
 * signal n. If it cannot be started, FD gets "<code> <reason>\n" (see give_up) and the status is
 * that code; FD is closed when it has started. The command ends with the caller. */
#ifndef SHIM_ENTER_H
#define SHIM_ENTER_H

int enter(int argc, char **argv);

#endif
