/* The supervisor's talk with the agent (docs/protocol.md). */
#ifndef TASKCTL_INIT_LINK_H
#define TASKCTL_INIT_LINK_H

void link_connect(void);

/* Asks what the phase wants to know, if the agent is there and was not asked yet. */
void link_send_work(void);
void link_event(short events);

#endif
