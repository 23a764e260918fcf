#pragma once

#include "vicinal/attention.h"
#include "vicinal/error.h"
#include "vicinal/plan.h"
#include "vicinal/problem.h"
#include "vicinal/tensor.h"
#include "vicinal/unfused.h"
#include "vicinal/version.h"
