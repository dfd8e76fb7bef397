#include "state.h"

struct state S;
